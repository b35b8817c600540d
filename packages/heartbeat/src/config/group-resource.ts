import type { Diagnostics, SourcePosition } from "@hacluster/blockrep/base";
import { addressText, readAddressArgument } from "./address-argument.ts";
import type { AddressArgument, GroupResource } from "./model.ts";
import type { Word } from "./text.ts";

const ADDRESS_EXAMPLE = 'write for example "IPaddr2::192.168.0.29/24/eth0"';

/**
 * One resource of a haresources line: `SCRIPT::ARG1::ARG2`, or a bare address, which means IPaddr.
 * @returns undefined after a reported error
 * @see Heartbeat 3.0.6 haresources
 */
export function parseGroupResource(word: Word, diagnostics: Diagnostics): GroupResource | undefined {
  const bare = /^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+/.test(word.text);
  const [script, ...written] = bare ? ["IPaddr", word.text] : word.text.split("::");
  const args = written.filter((arg) => arg !== "");
  const base = { text: word.text, script: script ?? "", args, at: word.at };
  if (!bare && !/^[A-Za-z0-9][\w.@:+-]*$/.test(base.script)) {
    diagnostics.error(
      word.at,
      word.text === "\\"
        ? "a backslash with something behind it does not continue the line"
        : `"${word.text}" does not begin with the name of a script`,
      word.text === "\\" ? "let it be the last character of its line" : ADDRESS_EXAMPLE,
    );
    return undefined;
  }
  if (args.some((arg) => /[*?[]/.test(arg))) {
    diagnostics.warning(word.at, `"${word.text}": Heartbeat's shell expands * ? [ to file names, hacluster does not`);
  }
  const lacking = (what: string, example: string): undefined => {
    diagnostics.error(word.at, `"${word.text}" lacks ${what}`, `write for example "${example}"`);
    return undefined;
  };
  switch (base.script) {
    case "IPaddr":
    case "IPaddr2": {
      if (args[0] === undefined) return lacking("its address", "IPaddr2::192.168.0.29/24/eth0");
      const address = parseAddressArgument(addressText(args), word.at, diagnostics);
      return address === undefined ? undefined : { ...base, kind: "address", address };
    }
    case "drbddisk":
      return { ...base, kind: "drbddisk", resource: args[0] ?? "all" };
    case "Filesystem": {
      const [device, directory, fstype, options] = args;
      if (device === undefined || directory === undefined) {
        return lacking("its device or directory", "Filesystem::/dev/drbd0::/srv/data::ext4");
      }
      return { ...base, kind: "filesystem", device, directory, fstype, options };
    }
    case "OCF":
      return args[0] === undefined
        ? lacking("its agent", "OCF::apache::web")
        : { ...base, kind: "ocf", agent: args[0] };
    default:
      if (base.script.startsWith("systemd:")) {
        const unit = base.script.slice("systemd:".length);
        return unit === "" ? lacking("its unit", "systemd:apache2") : { ...base, kind: "systemd", unit };
      }
      return { ...base, kind: "script" };
  }
}

function parseAddressArgument(text: string, at: SourcePosition, diagnostics: Diagnostics): AddressArgument | undefined {
  const read = readAddressArgument(text);
  if (!("refusal" in read)) return read;
  diagnostics.error(at, `"${text}": ${read.refusal}`, ADDRESS_EXAMPLE);
  return undefined;
}
