// One side of a replicated pair, or the unreplicated server, as a process of its own. Argument: ServerSettings as JSON.
// Commands come on standard input, one per line, each answered by one line of JSON; the end of the input ends the process.
import { createInterface } from "node:readline";
import {
  createMetadata,
  type EngineNetOptions,
  FileStore,
  NbdServer,
  NET_DEFAULTS,
  Resource,
  StoreBackend,
} from "@hacluster/blockrep";

export interface ServerSettings {
  readonly kind: "single" | "pair";
  readonly backing: string;
  /** NBD socket; the secondary of a pair has none. */
  readonly socket?: string;
  readonly local?: { readonly host: string; readonly port: number };
  readonly peer?: { readonly host: string; readonly port: number };
  readonly alExtents?: number;
}

const NET: EngineNetOptions = {
  ...NET_DEFAULTS,
  connectIntMs: 500,
  // the machine is overloaded on purpose: a late ping is no failure here
  pingTimeoutMs: 5000,
  socketCheckTimeoutMs: 100,
};

const settings = JSON.parse(process.argv[2] ?? "{}") as ServerSettings;

function say(message: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

async function single(): Promise<() => Promise<void>> {
  const store = FileStore.open(settings.backing);
  const server = await NbdServer.listen({
    path: settings.socket as string,
    exports: [{ name: "r0", backend: new StoreBackend(store) }],
  });
  return async () => {
    await server.close();
    await store.close();
  };
}

async function pair(): Promise<() => Promise<void>> {
  const { backing, local, peer, socket } = settings;
  if (local === undefined || peer === undefined) throw new Error("a pair needs two addresses");
  await createMetadata({ disk: backing, placement: "internal" });
  const resource = new Resource({
    engine: {
      resource: "r0",
      net: NET,
      volumes: [
        {
          volume: 0,
          minor: 0,
          disk: {
            meta: { kind: "internal" },
            sizeSectors: 0,
            onIoError: "detach",
            fencing: "dont-care",
            alExtents: settings.alExtents ?? 1237,
            diskFlushes: true,
            mdFlushes: true,
            resyncRateKib: 250,
            cPlanAhead: 20,
            cDelayTarget: 10,
            cFillTargetSectors: 100,
            cMaxRateKib: 4 * 1024 * 1024,
            cMinRateKib: 250,
            diskTimeoutMs: 0,
          },
        },
      ],
      onNoDataAccessible: "io-error",
      handlers: [],
      protocolMin: 100,
      protocolMax: 101,
    },
    local,
    peer,
    volumes: [{ volume: 0, minor: 0, disk: backing }],
    handlers: {},
    runHandlers: false,
  });
  resource.on("note", (level, text) => process.stderr.write(`${level}: ${text}\n`));
  resource.on("event", (event) => {
    if (event.type === "network" || event.type === "disk-error" || event.type === "note") {
      process.stderr.write(`${JSON.stringify(event)}\n`);
    }
    if (event.type === "resync-end") resyncEnd(event.blocks, event.ms);
  });
  let resyncEnd: (blocks: number, ms: number) => void = () => {};
  await resource.up();
  let server: NbdServer | undefined;
  if (socket !== undefined) {
    await resource.waitUntil(Resource.isConnected, { timeoutMs: 20_000 });
    await resource.command({ verb: "new-current-uuid", clearBitmap: true });
    await resource.waitUntil(Resource.isInSync, { timeoutMs: 20_000 });
    await resource.primary();
    server = await resource.serve(socket);
  }
  commands.set("resync", async () => {
    const ended = new Promise<Record<string, unknown>>((resolve) => {
      resyncEnd = (blocks, ms) => resolve({ blocks, ms });
    });
    const started = performance.now();
    await resource.command({ verb: "invalidate-remote" });
    const result = await ended;
    await resource.waitUntil(Resource.isInSync, { timeoutMs: 60_000 });
    return { ...result, wallMs: performance.now() - started };
  });
  commands.set("status", () => Promise.resolve({ ...resource.status() }));
  return async () => {
    await server?.close();
    if (socket !== undefined) await resource.secondary();
    await resource.down();
  };
}

const commands: Map<string, () => Promise<Record<string, unknown>>> = new Map();

const close = settings.kind === "single" ? await single() : await pair();
say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const command = commands.get(line.trim());
  try {
    say(command === undefined ? { error: `no command ${line}` } : await command());
  } catch (error) {
    say({ error: String(error) });
  }
}
// whatever goes wrong now: the process ends in order, so that its profile is written
const limit = setTimeout(() => process.exit(1), 5000);
await close().catch((error: unknown) => process.stderr.write(`${String(error)}\n`));
clearTimeout(limit);
process.exit(0);
