import type { Diagnostics } from "../base/index.ts";
import type { DrbdConfig, OptionSection, OptionSetting } from "./model.ts";
import { findOption, type OptionSpec } from "./options.ts";
import { parseValue } from "./values.ts";

/**
 * A warning for every setting that changes nothing here: not implemented yet, or without meaning in userspace. One that
 * writes the default is silent, since nothing differs from what it asks for.
 */
export function reportEffects(config: DrbdConfig, diagnostics: Diagnostics): void {
  const report = (section: OptionSection, settings: readonly OptionSetting[]): void => {
    for (const setting of settings) {
      const option = findOption(section, setting.name);
      if (option !== undefined) reportSetting(option, setting, diagnostics);
    }
  };
  for (const part of [...(config.common === undefined ? [] : [config.common]), ...config.resources]) {
    for (const [section, settings] of Object.entries(part.sections)) report(section as OptionSection, settings);
  }
  for (const host of config.resources.flatMap((resource) => resource.hosts)) {
    report("options", host.options);
    for (const volume of host.volumes) report("disk", volume.diskOptions);
    if (host.proxy !== undefined) {
      diagnostics.warning(host.proxy.at, "DRBD Proxy is not supported", "the peers connect to each other directly");
    }
  }
}

function reportSetting(option: OptionSpec, setting: OptionSetting, diagnostics: Diagnostics): void {
  const shown = setting.value === undefined ? option.name : `${option.name} ${setting.value}`;
  const laterValue = setting.value === undefined ? undefined : option.laterValues[setting.value];
  if (laterValue !== undefined) {
    diagnostics.warning(setting.at, `${shown} is not implemented yet`, laterValue);
    return;
  }
  if (option.effect === "implemented" || isDefault(option, setting)) return;
  const what = option.effect === "later" ? "is not implemented yet" : "has no meaning in userspace";
  diagnostics.warning(setting.at, `${shown} ${what}`, option.reason);
}

function isDefault(option: OptionSpec, setting: OptionSetting): boolean {
  if (setting.value === undefined || !("default" in option.type)) return false;
  const result = parseValue(option, setting.value);
  return "value" in result && result.value === option.type.default;
}
