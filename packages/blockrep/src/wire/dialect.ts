import { FEATURES_ALL, HEADER_LENGTH_H80, HEADER_LENGTH_H100, PRO_VERSION_MAX, PRO_VERSION_MIN } from "./constants.ts";

/**
 * What decides the layout of packets in one direction of a connection. Each direction has its own, since a
 * P_PROTOCOL_UPDATE changes the digest of what its sender sends from then on.
 */
export interface Dialect {
  /** Agreed protocol version, 86..101; h100 headers from 100 on. */
  readonly version: number;
  /** Agreed Feature bits. */
  readonly features: number;
  /** Bytes of integrity digest in front of the data of P_DATA and its replies; 0 without data-integrity-alg. */
  readonly integrityDigestLength: number;
}

/** Until the features are exchanged every header is h80, also between two 8.4 nodes. */
export const INITIAL_DIALECT: Dialect = { version: PRO_VERSION_MIN, features: 0, integrityDigestLength: 0 };

export function headerLength(dialect: Dialect): number {
  return dialect.version >= 100 ? HEADER_LENGTH_H100 : HEADER_LENGTH_H80;
}

/** What one side offers in P_CONNECTION_FEATURES. */
export interface FeatureOffer {
  readonly protocolMin: number;
  /** 0 is read as protocolMin. */
  readonly protocolMax: number;
  readonly featureFlags: number;
}

/** What 8.4 offers, and we. */
export const OWN_OFFER: FeatureOffer = {
  protocolMin: PRO_VERSION_MIN,
  protocolMax: PRO_VERSION_MAX,
  featureFlags: FEATURES_ALL,
};

/**
 * The dialect that two offers agree on: the lower of the two highest versions, the features that both have.
 * @returns undefined when the version ranges do not overlap: incompatible dialects, do not try again
 */
export function negotiate(mine: FeatureOffer, theirs: FeatureOffer): Dialect | undefined {
  const theirMax = theirs.protocolMax === 0 ? theirs.protocolMin : theirs.protocolMax;
  if (mine.protocolMax < theirs.protocolMin || theirMax < mine.protocolMin) return undefined;
  return {
    version: Math.min(mine.protocolMax, theirMax),
    features: (mine.featureFlags & theirs.featureFlags) >>> 0,
    integrityDigestLength: 0,
  };
}
