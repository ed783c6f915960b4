/** A client of Stepwave: workflows, runs and their events. */

export { Client } from "./client.js";
export type { ClientOptions, Definition, RunFilter, StartOptions, StepFailure, WaitOptions, WatchOptions } from "./client.js";
export type { ConnectionOptions } from "./connection.js";
export type { Message } from "./contract.js";
export * from "./errors.js";
export type { CallOptions } from "./link.js";
export { RunHandle } from "./run.js";
export type { RunOptions } from "./run.js";
export type * from "./types.js";
export { Bytes, cel, secret, withDefault } from "./values.js";
export type { Bound, Input, Json, Reference, Value } from "./values.js";
export { StepHandle, Workflow } from "./workflow.js";
export type { Fallback, ListOptions, Retry, StepOptions, WorkflowOptions } from "./workflow.js";
