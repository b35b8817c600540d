import { existsSync, readlinkSync, statfsSync } from "node:fs";

/** What decides whether commands such as `echo o > /proc/sysrq-trigger ; halt -f` would hit more than this node. */
export interface HandlerSurroundings {
  /** The kernel's first pid namespace: reboot(2) from here ends the machine; from any other only that namespace. */
  readonly firstPidNamespace: boolean;
  /** Mounts, network, host name and IPC are those of the machine's init. */
  readonly sameAsInit: boolean;
  /** A container runtime left its mark. */
  readonly inContainer: boolean;
  /** `real`: the kernel's own file, with which a write reaches the machine. */
  readonly sysrqTrigger: "absent" | "masked" | "real";
}

/** The kernel gives its first pid namespace this number. @see PROC_PID_INIT_INO in linux/proc_ns.h */
const FIRST_PID_NAMESPACE = "pid:[4026531836]";
const PROC_SUPER_MAGIC = 0x9fa0;
const SYSRQ_TRIGGER = "/proc/sysrq-trigger";

/**
 * May the configuration's handlers run here? On a machine (or virtual machine) of our own they are what its administrator
 * wants. A node that shares its kernel with other systems must have a pid namespace of its own, so that halt and reboot
 * end nothing else, and a masked sysrq-trigger; what cannot be found out counts as unsafe.
 * @returns undefined when they may, else the reason why not
 */
export function whyNoHandlers(surroundings: HandlerSurroundings): string | undefined {
  const { firstPidNamespace, sysrqTrigger } = surroundings;
  if (ownsTheMachine(surroundings)) return undefined;
  if (firstPidNamespace) {
    return "this process is in a namespace or container of its own, but halt and reboot would end the whole machine";
  }
  if (sysrqTrigger !== "real") return undefined;
  return `this process is in a container or namespace whose ${SYSRQ_TRIGGER} is the machine's own`;
}

/** A machine or virtual machine of our own: to restart it concerns nobody else. */
export function ownsTheMachine({ firstPidNamespace, sameAsInit, inContainer }: HandlerSurroundings): boolean {
  return firstPidNamespace && sameAsInit && !inContainer;
}

export function handlerSurroundings(): HandlerSurroundings {
  return {
    firstPidNamespace: (link("/proc/self/ns/pid") ?? FIRST_PID_NAMESPACE) === FIRST_PID_NAMESPACE,
    sameAsInit: ["mnt", "net", "uts", "ipc"].every((kind) => {
      const own = link(`/proc/self/ns/${kind}`);
      return own !== undefined && own === link(`/proc/1/ns/${kind}`);
    }),
    inContainer: existsSync("/.dockerenv") || existsSync("/run/.containerenv"),
    sysrqTrigger: sysrqTrigger(),
  };
}

function link(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

/** A mask is a file of some other filesystem, usually /dev/null, mounted over it. */
function sysrqTrigger(): HandlerSurroundings["sysrqTrigger"] {
  try {
    return statfsSync(SYSRQ_TRIGGER).type === PROC_SUPER_MAGIC ? "real" : "masked";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? "absent" : "real";
  }
}
