import { HaMessage } from "../wire/message.ts";
import { type Context, NEVER, soonest } from "./context.ts";
import type { Membership } from "./membership.ts";
import type { PeerResources } from "./peer-resources.ts";

/** Fencing between the two replicated disks over heartbeat's links; between hacluster nodes only. */
export const OutdateMessage = { ask: "hcoutdate", answer: "hcoutdated" } as const;

export function isOutdateMessage(t: string): boolean {
  return t === OutdateMessage.ask || t === OutdateMessage.answer;
}

/** Exit codes of a fence-peer handler. @see DRBD 8.4 fence-peer */
export const FencePeerExit = { inconsistent: 3, outdated: 4, unreachable: 5, primary: 6, fenced: 7 } as const;
/** Not one of DRBD's: the handler itself failed. */
const FAILED = 1;

interface Question {
  readonly id: number;
  readonly resource: string;
  readonly token: string;
  readonly deadlineMs: number;
}

/** What the requests of this node need of the rest of the engine. */
export interface OutdateHost {
  send(message: HaMessage): void;
  /** The reset of the peer has succeeded since it was last alive. */
  peerFenced(): boolean;
}

/**
 * A Primary that lost its replication link asks the other node, over heartbeat's links, to call its copy Outdated, so that it
 * cannot become Primary with old data. The answer is the exit code of DRBD's fence-peer handler.
 */
export class OutdatePeer {
  readonly #context: Context;
  readonly #membership: Membership;
  readonly #peer: PeerResources;
  readonly #host: OutdateHost;
  readonly #questions: Question[] = [];
  /** Own jobs at the peer's request: job → token of its message. */
  readonly #jobs = new Map<number, string>();
  #nextJob = 0;

  constructor(context: Context, membership: Membership, peer: PeerResources, host: OutdateHost) {
    this.#context = context;
    this.#membership = membership;
    this.#peer = peer;
    this.#host = host;
  }

  /** The administrator's, or the handler's, request. */
  ask(id: number, resource: string, timeoutMs: number): void {
    const context = this.#context;
    const peer = context.peer ?? "the other node";
    if (!this.#membership.peerAlive || this.#peer.left) {
      const fenced = this.#host.peerFenced();
      this.#done(
        id,
        resource,
        fenced ? FencePeerExit.fenced : FencePeerExit.unreachable,
        fenced ? `${peer} has been reset` : `${peer} is dead or unreachable on every link`,
      );
      return;
    }
    if (this.#peer.kind !== "hacluster") {
      this.#done(id, resource, FAILED, `${peer} is no hacluster node and cannot be asked over heartbeat's links`);
      return;
    }
    const token = `${context.identity.generation.toString(16)}.${id}`;
    this.#questions.push({ id, resource, token, deadlineMs: context.nowMs + timeoutMs });
    context.event("warn", "outdate.asked", `asking ${peer} to call its copy of ${resource} Outdated`, { resource });
    this.#host.send(HaMessage.of(OutdateMessage.ask, { dest: context.peer ?? "", resource, token }));
  }

  received(message: HaMessage): void {
    const token = message.get("token") ?? "";
    if (message.type === OutdateMessage.ask) {
      const resource = message.get("resource") ?? "";
      if (resource === "" || token === "" || token.length > 64) {
        this.#context.count("messagesRefused");
        return;
      }
      const job = ++this.#nextJob;
      this.#jobs.set(job, token);
      this.#context.event("warn", "outdate.asked", `${this.#context.peer} asks to call ${resource} Outdated here`, {
        resource,
      });
      this.#context.sink.outdate(job, resource);
      return;
    }
    const at = this.#questions.findIndex((question) => question.token === token);
    const exitCode = message.decimal("result");
    const question = this.#questions[at];
    if (question === undefined || exitCode === undefined) return;
    this.#questions.splice(at, 1);
    this.#done(question.id, question.resource, exitCode, `${this.#context.peer} answered`);
  }

  /** Our own copy was outdated, or could not be. */
  outdateDone(job: number, exitCode: number): void {
    const token = this.#jobs.get(job);
    if (token === undefined) return;
    this.#jobs.delete(job);
    this.#host.send(
      HaMessage.of(OutdateMessage.answer, { dest: this.#context.peer ?? "", token, result: String(exitCode) }),
    );
  }

  tick(): void {
    const alive = this.#membership.peerAlive;
    for (const question of this.#questions.splice(0)) {
      if (alive && this.#context.nowMs < question.deadlineMs) this.#questions.push(question);
      else
        this.#done(
          question.id,
          question.resource,
          this.#host.peerFenced() ? FencePeerExit.fenced : FencePeerExit.unreachable,
          `${this.#context.peer} did not answer`,
        );
    }
  }

  deadline(): number {
    return soonest(this.#context.nowMs, ...this.#questions.map((question) => question.deadlineMs), NEVER);
  }

  #done(id: number, resource: string, exitCode: number, why: string): void {
    const text = `${resource}: ${describe(exitCode)}: ${why}`;
    const ok = exitCode !== FAILED && exitCode !== FencePeerExit.primary;
    this.#context.event(ok ? "info" : "error", "outdate.done", text, { resource, exitCode });
    this.#context.sink.commandDone(id, { ok, exitCode, text });
  }
}

function describe(exitCode: number): string {
  switch (exitCode) {
    case FencePeerExit.inconsistent:
      return "the peer's copy is Inconsistent anyway";
    case FencePeerExit.outdated:
      return "the peer's copy is Outdated";
    case FencePeerExit.unreachable:
      return "the peer is unreachable";
    case FencePeerExit.primary:
      return "the peer is Primary and keeps its copy";
    case FencePeerExit.fenced:
      return "the peer was fenced";
    default:
      return "the peer's copy could not be outdated";
  }
}
