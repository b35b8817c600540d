import type { ResourceStatus } from "@hacluster/blockrep";
import { ControlClient } from "../../control/client.ts";
import type { ControlEvent } from "../../control/protocol.ts";
import { type EventOptions, EventStream } from "../../formats/drbd-events.ts";
import { blockrepSocket } from "../../paths.ts";
import { print } from "../context.ts";
import { blockrepStatusIfUp } from "../control.ts";

/** A resource that is down is looked for this often. */
const RETRY_MS = 500;

type Objects = { readonly atMs: number; readonly status: ResourceStatus };
type Helper = {
  readonly atMs: number;
  readonly helper: string;
  readonly volume: number;
  readonly status: number | null;
};

/**
 * `events2`: print what there is; then each change, until a signal ends the program or nobody reads any more. Resources
 * that are down are waited for.
 */
export async function followEvents(
  names: readonly string[],
  options: EventOptions & { readonly now: boolean },
): Promise<void> {
  const stream = new EventStream(options);
  if (options.now) {
    const found: ResourceStatus[] = [];
    for (const name of names) {
      const status = await blockrepStatusIfUp(name);
      if (status !== undefined) found.push(status);
    }
    for (const line of stream.initial(found, Date.now())) print(line);
    return;
  }
  const followers = names.map((name) => new Follower(name, stream));
  const found = await Promise.all(followers.map((follower) => follower.connect()));
  const initial = found.filter((status): status is ResourceStatus => status !== undefined);
  for (const line of stream.initial(initial, Date.now())) print(line);
  process.stdout.on("error", () => process.exit(0)); // the reader has gone: `events2 | head`
  for (const follower of followers) follower.begin();
  await new Promise<never>(() => {});
}

/** One resource's part of the stream. Events that come before the first dump is printed wait for it. */
class Follower {
  readonly #name: string;
  readonly #stream: EventStream;
  #waiting: ControlEvent[] | undefined = [];
  #connected = false;

  constructor(name: string, stream: EventStream) {
    this.#name = name;
    this.#stream = stream;
  }

  /** The resource's state, and from then on its events; undefined while it is down. */
  async connect(): Promise<ResourceStatus | undefined> {
    let client: ControlClient;
    try {
      client = await ControlClient.open(blockrepSocket(this.#name));
      await client.subscribe(
        (event) => this.#take(event),
        () => this.#lost(),
        ["objects"],
      );
      const status = (await client.request("status")) as unknown as ResourceStatus;
      this.#connected = true;
      return status;
    } catch {
      return undefined;
    }
  }

  begin(): void {
    const events = this.#waiting ?? [];
    this.#waiting = undefined;
    for (const event of events) this.#print(event);
    if (!this.#connected) this.#retry();
  }

  #take(event: ControlEvent): void {
    if (this.#waiting === undefined) this.#print(event);
    else this.#waiting.push(event);
  }

  #print({ event, data }: ControlEvent): void {
    if (event === "objects") {
      const { atMs, status } = data as unknown as Objects;
      this.#say(this.#stream.update(status, atMs));
    } else if (event === "helper") {
      const { atMs, helper, volume, status } = data as unknown as Helper;
      this.#say(this.#stream.helper(this.#name, { helper, volume, status: status ?? undefined }, atMs));
    }
  }

  #lost(): void {
    this.#connected = false;
    this.#say(this.#stream.gone(this.#name, Date.now()));
    if (this.#waiting === undefined) this.#retry();
  }

  #retry(): void {
    setTimeout(() => {
      void this.connect().then((status) => {
        if (status === undefined) this.#retry();
        else this.#say(this.#stream.update(status, Date.now()));
      });
    }, RETRY_MS);
  }

  #say(lines: readonly string[]): void {
    for (const line of lines) print(line);
  }
}
