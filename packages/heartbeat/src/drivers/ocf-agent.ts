import { readAddressArgument } from "../config/address-argument.ts";

/** A parameter as an OCF agent's meta-data lists it. */
export interface AgentParameter {
  readonly name: string;
  readonly required: boolean;
}

/** Exit code of `monitor` for a resource that is cleanly stopped; every other one may still hold something. */
export const OCF_NOT_RUNNING = 7;

/** The parameters in the meta-data that an agent prints, in their order. */
export function parseMetaData(xml: string): AgentParameter[] {
  return [...xml.matchAll(/<parameter\s([^>]*)>/g)].flatMap(([, attributes = ""]) => {
    const name = attribute(attributes, "name");
    return name === undefined
      ? []
      : [{ name, required: /^(1|true|yes)$/i.test(attribute(attributes, "required") ?? "") }];
  });
}

function attribute(text: string, name: string): string | undefined {
  return new RegExp(`(?:^|\\s)${name}\\s*=\\s*["']([^"']*)["']`).exec(text)?.[1];
}

/**
 * Names for the arguments of a haresources line. `name=value` is taken as it is when the agent has such a parameter;
 * the others fill the required parameters in the order of the meta-data, then the optional ones: the order that
 * the wrapper scripts of Heartbeat have. An address `ip/bits/interface:label/broadcast` is spread over the parameters
 * of an agent that takes addresses.
 * @returns the reason when there are more arguments than parameters
 */
export function nameArguments(
  agent: string,
  args: readonly string[],
  parameters: readonly AgentParameter[],
): { readonly named: Record<string, string> } | { readonly refusal: string } {
  const named: Record<string, string> = {};
  const positional: string[] = [];
  for (const arg of args.filter((text) => text !== "")) {
    const equals = arg.indexOf("=");
    const name = arg.slice(0, Math.max(equals, 0));
    const known = parameters.some((parameter) => parameter.name === name);
    // without meta-data a name is believed; with it, /dev/x=y is a value
    if (known || (parameters.length === 0 && /^\w+$/.test(name))) named[name] = arg.slice(equals + 1);
    else positional.push(arg);
  }
  const order = [...parameters.filter((p) => p.required), ...parameters.filter((p) => !p.required)];
  const free = order.map((parameter) => parameter.name).filter((name) => !(name in named));
  for (const [index, value] of positional.entries()) {
    const name = free[index];
    if (name === undefined) {
      const takes = parameters.length === 0 ? "its meta-data names none" : order.map((p) => p.name).join(", ");
      return {
        refusal: `OCF agent ${agent} has no parameter for "${value}" (${takes}): write ${agent}::name=value`,
      };
    }
    Object.assign(named, index === 0 ? spreadAddress(name, value, parameters) : { [name]: value });
  }
  return { named };
}

function spreadAddress(name: string, value: string, parameters: readonly AgentParameter[]): Record<string, string> {
  const has = (wanted: string): boolean => parameters.some((parameter) => parameter.name === wanted);
  const plain = { [name]: value };
  if (!["ip", "ipv6addr"].includes(name) || !value.includes("/") || !has("nic")) return plain;
  const address = readAddressArgument(value);
  if ("refusal" in address) return plain;
  const spread: Record<string, string> = { [name]: address.ip };
  const put = (parameter: string, text: string | undefined): void => {
    if (text !== undefined && has(parameter)) spread[parameter] = text;
  };
  put("cidr_netmask", address.prefixBits?.toString());
  put("nic", address.interface);
  put("iflabel", address.label);
  put("broadcast", address.broadcast);
  return spread;
}

/**
 * Parameters in an instance file of Heartbeat, /etc/ha.d/conf/OCF/AGENT/INSTANCE: lines `OCF_RESKEY_name=value`, `#`
 * begins a comment. Heartbeat lets the shell read it; quotes around a value are understood here, expansions are not.
 */
export function parseInstanceFile(text: string): Record<string, string> {
  const named: Record<string, string> = {};
  for (const line of text.split("\n")) {
    const found = /^\s*(?:export\s+)?(?:OCF_RESKEY_)?(\w+)=(?:"([^"]*)"|'([^']*)'|([^\s#]*))/.exec(line);
    if (found !== null) named[found[1] as string] = found[2] ?? found[3] ?? found[4] ?? "";
  }
  return named;
}
