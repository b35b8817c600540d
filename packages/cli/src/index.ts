/**
 * `hacluster`: the command and the daemons.
 * @packageDocumentation
 */
export {};
