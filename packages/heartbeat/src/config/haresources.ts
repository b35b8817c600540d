import { type Diagnostics, nearestWord, type SourcePosition } from "@hacluster/blockrep/base";
import { parseGroupResource } from "./group-resource.ts";
import type { ConfiguredNode, GroupResource, Haresources, ServiceGroup } from "./model.ts";
import { splitLines, stripComment, type Word, words } from "./text.ts";

/**
 * Read haresources: comments off, then lines that end in a backslash joined with the next one (nothing inserted),
 * then words. Positions are those of the file as it is.
 * @param nodes the nodes of ha.cf; an owner that is none of them is an error. Undefined: not checked.
 * @see Heartbeat 3.0.6 haresources
 */
export function parseHaresources(
  text: string,
  file: string,
  diagnostics: Diagnostics,
  nodes?: readonly ConfiguredNode[],
): Haresources {
  const groups: ServiceGroup[] = [];
  for (const line of logicalLines(text, file, diagnostics)) {
    const [owner, ...rest] = line;
    if (owner === undefined) continue;
    const node = owner.text.toLowerCase();
    if (nodes !== undefined && nodes.length > 0) checkOwner(node, owner, nodes, diagnostics);
    const resources: GroupResource[] = [];
    for (const word of rest) {
      const resource = parseGroupResource(word, diagnostics);
      if (resource !== undefined) resources.push(resource);
    }
    const first = resources[0];
    if (first === undefined) {
      if (rest.length === 0) {
        diagnostics.warning(owner.at, `the line of ${node} has no resources and no effect`, "add some or remove it");
      }
      continue;
    }
    groups.push({ node, key: first.text, resources, at: owner.at });
  }
  checkDuplicates(groups, diagnostics);
  return { file, groups };
}

/** The words of each line after joining, each with its place in the file. */
function logicalLines(text: string, file: string, diagnostics: Diagnostics): Word[][] {
  const out: Word[][] = [];
  let pending: Word[] = [];
  /** The line before ended in a backslash, right behind a word that the next line goes on with. */
  let glue = false;
  splitLines(text).forEach((whole, index) => {
    let raw = whole;
    if (raw.endsWith("\r")) {
      diagnostics.error(
        { file, line: index + 1, column: raw.length },
        "the line ends with a carriage return",
        "convert the file to Unix line ends",
      );
      raw = raw.slice(0, -1);
    }
    let line = stripComment(raw);
    const continued = line.endsWith("\\");
    if (continued) line = line.slice(0, -1);
    const found = words(line, file, index + 1, " \t");
    const head = found[0];
    const last = pending.at(-1);
    if (glue && head !== undefined && last !== undefined && head.at.column === 1) {
      pending[pending.length - 1] = { text: last.text + head.text, at: last.at };
      diagnostics.warning(
        head.at,
        `joined to "${last.text}${head.text}" with the end of the line above`,
        "put a blank before the backslash if these are two words",
      );
      pending.push(...found.slice(1));
    } else pending.push(...found);
    glue = continued && (line === "" ? glue : !/[ \t]$/.test(line));
    if (!continued) {
      out.push(pending);
      pending = [];
    }
  });
  out.push(pending);
  return out;
}

function checkOwner(node: string, owner: Word, nodes: readonly ConfiguredNode[], diagnostics: Diagnostics): void {
  if (nodes.some((n) => n.name === node)) return;
  const names = nodes.map((n) => n.name);
  const near = nearestWord(node, names);
  diagnostics.error(
    owner.at,
    `"${owner.text}" owns this line and is no node of ha.cf`,
    near === undefined ? `begin the line with one of ${names.join(", ")}` : `write "${near}"`,
  );
}

/**
 * A key must be unique: Heartbeat finds a group by searching for it in the lines. An address, disk or mount in two
 * groups would have two owners.
 */
function checkDuplicates(groups: readonly ServiceGroup[], diagnostics: Diagnostics): void {
  const seen = new Map<string, { at: SourcePosition; group: ServiceGroup; isKey: boolean }>();
  for (const group of groups) {
    for (const resource of group.resources) {
      const identity = identityOf(resource);
      const isKey = resource === group.resources[0];
      const earlier = seen.get(identity);
      if (earlier === undefined) {
        seen.set(identity, { at: resource.at, group, isKey });
        continue;
      }
      const what = `"${resource.text}" is in line ${earlier.at.line} already`;
      if (earlier.group === group) diagnostics.warning(resource.at, what, "remove one of them");
      else if (isKey && earlier.isKey) {
        diagnostics.error(
          resource.at,
          `${what}, and the first resource names the group`,
          "begin the line with another one",
        );
      } else if (resource.kind === "script" || resource.kind === "ocf" || resource.kind === "systemd") {
        diagnostics.warning(resource.at, `${what}: when one group stops it, it stops for the other too`);
      } else diagnostics.error(resource.at, `${what}: it would have two owners`, "put both groups into one line");
    }
  }
}

function identityOf(resource: GroupResource): string {
  switch (resource.kind) {
    case "address":
      return `address ${resource.address.ip}`;
    case "drbddisk":
      return `drbddisk ${resource.resource}`;
    case "filesystem":
      return `filesystem ${resource.directory}`;
    default:
      return [resource.script, ...resource.args].join("::");
  }
}
