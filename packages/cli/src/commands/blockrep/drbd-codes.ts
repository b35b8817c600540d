/** What somebody can do after a refusal, by its number; `RES` is replaced. */
const ADVICE: ReadonlyMap<number, string> = new Map([
  [-1, 'the peer is Primary: make it Secondary first ("hacluster blockrep secondary RES" there)'],
  [
    -2,
    'no disk here or at the peer is known to be UpToDate: connect the peer, or decide for the data of this node with "primary --force"',
  ],
  [-4, 'no disk is attached here: "hacluster blockrep attach RES"'],
  [-5, "the peer has no disk attached"],
  [-7, "fencing is on and the peer is not known to be outdated: connect it, or outdate it there"],
  [-8, 'a resync or verify runs: wait for it ("hacluster blockrep wait-sync RES"), or disconnect'],
  [-10, "the peer refused it; its log says why"],
  [-11, 'no disk is attached here: "hacluster blockrep attach RES"'],
  [-12, "unmount the device or end what has it open"],
  [-15, 'connect the peer first: "hacluster blockrep connect RES", then "wait-connect RES"'],
  [-16, "the data here are inconsistent, which is worse than outdated"],
  [104, "is the disk there, and used by nothing else?"],
  [111, "the disk is smaller than the agreed size of the device: has it been replaced?"],
  [119, 'new disk? "hacluster blockrep create-md RES"'],
  [123, 'make it Secondary first: "hacluster blockrep secondary RES"'],
  [124, 'it is attached already; to attach anew: "hacluster blockrep detach RES" first'],
  [102, 'it is connected or waits for the peer already; to connect anew: "hacluster blockrep disconnect RES" first'],
  [127, 'it is not up: "hacluster blockrep up RES"'],
  [138, 'no disk is attached here: "hacluster blockrep attach RES"'],
  [
    151,
    'run "hacluster blockrep disconnect RES" first; --clear-bitmap works while two new disks are connected and Inconsistent',
  ],
  [158, 'it is not up: "hacluster blockrep up RES"'],
  [162, "there is no connection: it is StandAlone or not up"],
  [165, '"hacluster blockrep apply-al RES"; "up" does it by itself'],
]);

export function adviceFor(code: number, resource: string): string | undefined {
  return ADVICE.get(code)?.replaceAll("RES", resource);
}
