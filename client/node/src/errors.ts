/**
 * Every error of the package, in one tree.
 *
 *     StepwaveError
 *     ├── InvalidWorkflow        the workflow or the call is malformed; every problem is listed
 *     ├── NotFound               no such run, step, workflow or action
 *     │   └── RunLost            the server restarted without a run that was followed, or the run was deleted
 *     ├── AlreadyExists          a run of this id exists with other content, or a step was completed otherwise
 *     ├── FailedPrecondition     the run is in the wrong state, such as deleting a run that has not ended
 *     ├── OutOfRange             the sequence is beyond the run's last event, or no longer kept
 *     ├── Unsupported            the server does not support a field or call
 *     ├── LimitExceeded          the call exceeds a limit of the server
 *     ├── AccessDenied           a credential is missing or refused
 *     ├── DeadlineExceeded       the call's own timeout passed
 *     ├── ServerUnavailable      the server does not answer, or is stopping
 *     ├── ServerError            a defect of the server
 *     └── RunFailed              the run ended without success; see `result`
 *         └── RunCancelled       the run was cancelled
 *
 * Facts are attributes. Do not parse them from messages.
 */

import { status, type ServiceError } from "@grpc/grpc-js";

import { decode, type Message } from "./contract.js";
import type { Failure, RunResult } from "./types.js";

/** One invalid field, and the problem. */
export interface Violation {
  /** The path of the field in the request, such as `workflow.steps[3].depends_on[0]`. */
  readonly field: string;
  readonly description: string;
  /** The kind of problem, such as `UNKNOWN_ACTION`; empty: it has no kind of its own. */
  readonly reason: string;
}

/** The facts of an error from the server. */
export interface ErrorFacts {
  /** The stable reason, such as `RUN_NOT_FOUND`; empty: none. */
  readonly reason?: string;
  /** Further facts, such as `run_id`. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Every invalid field. */
  readonly violations?: readonly Violation[];
  /** When to try again, in seconds; `undefined`: the same call will not succeed. */
  readonly retryAfter?: number | undefined;
  readonly cause?: unknown;
}

/** The base class of all errors of the package. */
export class StepwaveError extends Error {
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly Violation[];
  readonly retryAfter: number | undefined;

  constructor(message: string, facts: ErrorFacts = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = new.target.name;
    this.reason = facts.reason ?? "";
    this.metadata = facts.metadata ?? {};
    this.violations = facts.violations ?? [];
    this.retryAfter = facts.retryAfter;
  }
}

/** Thrown when a workflow or call is malformed. Nothing has been invoked. */
export class InvalidWorkflow extends StepwaveError {}

/** Thrown when there is no such run, step, workflow or action. */
export class NotFound extends StepwaveError {}

/** Thrown when a run disappears while it is followed. */
export class RunLost extends NotFound {}

/** Thrown when a run of this id exists with other content, or a step was completed with another outcome. */
export class AlreadyExists extends StepwaveError {}

/** Thrown when a run is not in the state that the call needs. */
export class FailedPrecondition extends StepwaveError {}

/** Thrown when a sequence is beyond the run's last event, or is no longer kept. */
export class OutOfRange extends StepwaveError {}

/** Thrown when the server does not support a field, value or call. */
export class Unsupported extends StepwaveError {}

/** Thrown when a call exceeds a limit of the server. */
export class LimitExceeded extends StepwaveError {}

/** Thrown when a credential is missing or refused. */
export class AccessDenied extends StepwaveError {}

/** Thrown when the call's own timeout passed. */
export class DeadlineExceeded extends StepwaveError {}

/** Thrown when the server does not answer, or is stopping. */
export class ServerUnavailable extends StepwaveError {}

/** Thrown when the server fails because of a defect. */
export class ServerError extends StepwaveError {}

/** Thrown when a run ended without success. */
export class RunFailed extends StepwaveError {
  constructor(readonly result: RunResult) {
    super(describe(result));
  }

  /** The first failure; `undefined`: the result has none. */
  get failure(): Failure | undefined {
    return this.result.failures[0];
  }
}

/** Thrown when a run was cancelled, except by the handle that is awaited. */
export class RunCancelled extends RunFailed {}

const CLASSES: Partial<Record<status, typeof StepwaveError>> = {
  [status.INVALID_ARGUMENT]: InvalidWorkflow,
  [status.NOT_FOUND]: NotFound,
  [status.ALREADY_EXISTS]: AlreadyExists,
  [status.FAILED_PRECONDITION]: FailedPrecondition,
  [status.OUT_OF_RANGE]: OutOfRange,
  [status.UNIMPLEMENTED]: Unsupported,
  [status.RESOURCE_EXHAUSTED]: LimitExceeded,
  [status.UNAUTHENTICATED]: AccessDenied,
  [status.PERMISSION_DENIED]: AccessDenied,
  [status.DEADLINE_EXCEEDED]: DeadlineExceeded,
  // The connection was lost, or the server cancelled the call as it stopped. Another attempt may succeed.
  [status.UNAVAILABLE]: ServerUnavailable,
  [status.CANCELLED]: ServerUnavailable,
};

// A connection that breaks in mid-stream resets it. gRPC calls that INTERNAL. An error of the server itself has a reason.
const RESET = /RST_STREAM with (error )?code [02]\b/;

/** Return the error for a failed call. */
export function fromServiceError(error: ServiceError, address: string): StepwaveError {
  const facts = { ...factsOf(error), cause: error };
  const lost = !facts.reason && error.code === status.INTERNAL && RESET.test(error.details);
  const kind = lost ? ServerUnavailable : (CLASSES[error.code] ?? ServerError);
  const problems = (facts.violations ?? []).map(({ field, description }) => (field ? `${field}: ${description}` : description));
  const message = problems.join("; ") || error.details || error.message;
  return new kind(kind === ServerUnavailable && !facts.reason ? `no server at ${address} (${message})` : message, facts);
}

/** Return the result of a run that succeeded. Throws `RunFailed` or `RunCancelled` for others. */
export function checked(result: RunResult): RunResult {
  if (result.state === "succeeded") return result;
  throw result.state === "cancelled" ? new RunCancelled(result) : new RunFailed(result);
}

/** Decode the `google.rpc.Status` of an error. */
function factsOf(error: ServiceError): ErrorFacts {
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!(bytes instanceof Uint8Array)) return {};
  const details = new Map<string, Message>();
  for (const { type_url, value } of decode("Status", bytes)["details"] as { type_url: string; value: Uint8Array }[]) {
    const name = type_url.split(".").at(-1)!;
    if (["ErrorInfo", "BadRequest", "RetryInfo"].includes(name)) details.set(name, decode(name, value));
  }
  const info = details.get("ErrorInfo");
  const delay = details.get("RetryInfo")?.["retry_delay"] as { seconds: number; nanos: number } | undefined;
  return {
    reason: info?.["reason"] ?? "",
    metadata: info?.["metadata"] ?? {},
    violations: details.get("BadRequest")?.["field_violations"] ?? [],
    retryAfter: delay && delay.seconds + delay.nanos / 1e9,
  };
}

function describe(result: RunResult): string {
  const [first] = result.failures;
  if (!first) return `run ${result.runId} ended ${result.state}`;
  const repeated = result.failures.slice(1).filter((failure) => failure.cause === "nested_step_failed").length;
  const more = result.failureCount - 1 - repeated;
  const subject = first.stepId ? `step '${first.stepId}' failed` : `run ${result.runId} ended ${result.state}`;
  return `${subject}: ${first.message}` + (more > 0 ? ` (and ${more} more)` : "");
}
