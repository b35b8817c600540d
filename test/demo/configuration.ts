import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The user's files: below it, `ha.d/ha.cf` is what becomes /etc/ha.d/ha.cf of nodo1. */
export const USER_FILES: string = fileURLToPath(new URL("../../../examples/file-server/etc", import.meta.url));

/** A file of a node's /etc. */
export interface ConfigFile {
  /** Relative to /etc. */
  readonly path: string;
  readonly text: string;
  readonly mode: number;
}

/** Timing for people who watch: takeover in a second or two. DRBD's `timeout` and `ping-timeout` are tenths of a second. */
export const FAST_HEARTBEAT: Readonly<Record<string, string>> = {
  keepalive: "100ms",
  deadtime: "500ms",
  warntime: "250ms",
  initdead: "5",
};
export const FAST_NET: Readonly<Record<string, string>> = {
  "ping-int": "1",
  "ping-timeout": "2",
  timeout: "20",
  "connect-int": "1",
};

/** The files of one node: the user's own, but for nodo2's peer address and, unless `classic`, the timing. */
export function filesFor(node: "nodo1" | "nodo2", classic: boolean, folder: string = USER_FILES): ConfigFile[] {
  return filesBelow(folder).map((path) => {
    let text = readFileSync(join(folder, path), "utf8");
    if (path.endsWith("/ha.cf")) {
      if (node === "nodo2") text = replaceOnce(text, /^(ucast\s+eth0\s+)192\.168\.0\.28$/m, "192.168.0.27", path);
      if (!classic) {
        for (const [name, value] of Object.entries(FAST_HEARTBEAT)) {
          text = replaceOnce(text, new RegExp(`^(${name}\\s+)\\S+$`, "m"), value, path);
        }
      }
    }
    if (path.endsWith(".res") && !classic) {
      for (const [name, value] of Object.entries(FAST_NET)) {
        text = replaceOnce(text, new RegExp(`(^\\s*${name}\\s+)\\d+(?=;)`, "m"), value, path);
      }
    }
    return { path, text, mode: path.endsWith("/authkeys") ? 0o600 : 0o644 };
  });
}

function replaceOnce(text: string, pattern: RegExp, value: string, path: string): string {
  if (!pattern.test(text)) throw new Error(`${path}: nothing matches ${pattern}: the demo cannot set "${value}"`);
  return text.replace(pattern, (_, before: string) => before + value);
}

function filesBelow(folder: string, prefix = ""): string[] {
  return readdirSync(join(folder, prefix), { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(prefix, entry.name);
      return entry.isDirectory() ? filesBelow(folder, path) : [path];
    })
    .sort();
}

/** The web server's part, the same on both nodes: it serves the folder that the replicated disk is mounted on. */
export const WEB_FILES: readonly ConfigFile[] = [
  { path: "apache2/ports.conf", mode: 0o644, text: "Listen 80\n" },
  {
    path: "apache2/sites-enabled/file-server.conf",
    mode: 0o644,
    text: `ServerName file-server
<VirtualHost *:80>
  DocumentRoot /home/jorge/datos
  # so that a visitor can see which node answers
  Alias /whoami /etc/hostname
  <Location />
    Require all granted
  </Location>
</VirtualHost>
`,
  },
];
