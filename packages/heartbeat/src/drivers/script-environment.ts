/** Of systemd or of Node, meant for the daemon: a service that saw them would speak to systemd in the daemon's name. */
const OF_THE_DAEMON =
  /^(NODE_.*|npm_.*|NOTIFY_SOCKET|WATCHDOG_(PID|USEC)|LISTEN_(PID|FDS|FDNAMES)|INVOCATION_ID|JOURNAL_STREAM|MAINPID|SYSTEMD_EXEC_PID|CREDENTIALS_DIRECTORY|RUNTIME_DIRECTORY|STATE_DIRECTORY|LOGS_DIRECTORY|MEMORY_PRESSURE_.*)$/;

const SYSTEM_PATH = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/**
 * Environment of a script: the daemon's without what is meant for the daemon, with the folders of system programs on
 * PATH, and with the HA_ variables.
 */
export function scriptEnvironment(
  own: NodeJS.ProcessEnv,
  added: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const environment: Record<string, string> = {};
  for (const [name, value] of Object.entries(own)) {
    if (value !== undefined && !OF_THE_DAEMON.test(name)) environment[name] = value;
  }
  const path = (environment["PATH"] ?? "").split(":").filter((folder) => folder !== "");
  environment["PATH"] = [...path, ...SYSTEM_PATH.filter((folder) => !path.includes(folder))].join(":");
  return { ...environment, ...added };
}
