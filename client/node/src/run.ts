/** Handles of runs that a client follows: to iterate over their events, and to await. */

import { checkNames, seconds, type Names } from "./checks.js";
import { onAbort } from "./connection.js";
import { duration, toObject, type Message } from "./contract.js";
import { checked, StepwaveError } from "./errors.js";
import { toEvent, toResult } from "./events.js";
import { Follower, type FollowOptions } from "./follow.js";
import { pause, type CallOptions, type Link } from "./link.js";
import type { Run, RunEvent, RunResult } from "./types.js";

const CANCEL_WITHIN = 5; // seconds for the cancel when the caller leaves
const LEAVE_WITHIN = 1; // seconds that the caller waits for it

export interface RunOptions {
  /** The run's id. Default: a new one that begins with the workflow's name. */
  readonly runId?: string | undefined;
  /** Aborts the run: it is cancelled, and the handle rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** The longest that the run may take, in seconds. Then it is cancelled, and the handle rejects with `DeadlineExceeded`. */
  readonly timeout?: number | undefined;
  /** If false, the handle resolves to the result of a run that did not succeed, too. Default: true. */
  readonly check?: boolean | undefined;
}

const RUN: Names<RunOptions> = { runId: true, signal: true, timeout: true, check: true };

/** The events of a watched run. Leaving the loop does not affect the run. */
export async function* watchEvents(
  link: Link,
  options: FollowOptions,
  signal: AbortSignal | undefined,
): AsyncGenerator<RunEvent, void> {
  const follower = new Follower(link, options);
  const forget = onAbort(signal, (reason) => follower.close(reason));
  try {
    for (let messages = await follower.read(); messages.length > 0; messages = await follower.read()) {
      for (const message of messages) yield toEvent(message);
    }
  } finally {
    forget();
    follower.close(undefined);
  }
}

/**
 * A run that was started here: a promise of its result, and its events.
 *
 *     const result = await client.run(flow);
 *
 *     const run = client.run(flow);
 *     for await (const event of run) console.log(event.type);
 *     console.log((await run).outputs);
 *
 * Leaving the loop before the run's end cancels the run. So does the signal. A loop that begins before the run is awaited
 * gets all events.
 */
export class RunHandle implements Promise<RunResult>, AsyncIterable<RunEvent>, AsyncDisposable {
  readonly [Symbol.toStringTag] = "RunHandle";
  readonly runId: string;
  readonly #link: Link;
  readonly #check: boolean;
  #forget: () => void = () => undefined;
  readonly #follower: Follower;
  readonly #events: RunEvent[] = [];
  #iterating = false;
  #pulling: Promise<void> | undefined;
  #left: Promise<void> | undefined;
  #cancelRequested = false;
  #failure: { readonly error: unknown } | undefined;
  #result: RunResult | undefined;

  constructor(link: Link, request: Message, options: RunOptions) {
    checkNames("run", options, RUN);
    this.runId = request["run_id"] as string;
    this.#link = link;
    this.#check = options.check ?? true;
    const { namespace, reconnectWindow } = link.settings;
    const execute = { ...request, namespace, reconnect_window: duration("reconnectWindow", reconnectWindow) };
    const watch = { namespace, run_id: this.runId, attach: true };
    const { signal } = options;
    const timeout = seconds("timeout", options.timeout);
    this.#follower = new Follower(link, { watch, execute, timeout });
    this.#forget = onAbort(signal, (reason) => {
      this.#follower.close(reason);
      void this.leave();
    });
    this.#follower.open();
  }

  /** The run's result, whatever its state; `undefined`: its last event has not been read. */
  get result(): RunResult | undefined {
    return this.#result;
  }

  /**
   * Cancel the run, and keep following it to its end.
   *
   * The handle then resolves to the result of the cancelled run: `RunCancelled` is for runs that others cancelled.
   */
  async cancel(reason = "", options: CallOptions = {}): Promise<Run> {
    this.#cancelRequested = true; // the run's end may be read before the answer
    try {
      return await this.#cancel(reason, options);
    } catch (error) {
      this.#cancelRequested = false;
      throw error;
    }
  }

  /** Free the stream, and cancel the run if it may still be under way; wait for at most a second for that. Idempotent. */
  leave(): Promise<void> {
    this.#left ??= this.#leave();
    return this.#left;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.leave();
  }

  then<Result1 = RunResult, Result2 = never>(
    onResult?: ((result: RunResult) => Result1 | PromiseLike<Result1>) | null,
    onError?: ((error: unknown) => Result2 | PromiseLike<Result2>) | null,
  ): Promise<Result1 | Result2> {
    return this.#complete().then(onResult, onError);
  }

  catch<Result = never>(onError?: ((error: unknown) => Result | PromiseLike<Result>) | null): Promise<RunResult | Result> {
    return this.#complete().catch(onError);
  }

  finally(onEnd?: (() => void) | null): Promise<RunResult> {
    return this.#complete().finally(onEnd);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<RunEvent, void> {
    this.#iterating = true;
    try {
      for (;;) {
        while (this.#events.length === 0 && !this.#result) await this.#pull();
        const event = this.#events.shift();
        if (!event) return;
        yield event;
      }
    } finally {
      this.#iterating = false;
      await this.leave();
    }
  }

  async #complete(): Promise<RunResult> {
    while (!this.#result) await this.#pull();
    await this.leave();
    const ownCancel = this.#result.state === "cancelled" && this.#cancelRequested;
    return this.#check && !ownCancel ? checked(this.#result) : this.#result;
  }

  /** Read the next events. A loop and an `await` at the same time share each read, so neither misses any. */
  #pull(): Promise<void> {
    if (this.#failure) throw this.#failure.error;
    this.#pulling ??= this.#read().finally(() => (this.#pulling = undefined));
    return this.#pulling;
  }

  async #read(): Promise<void> {
    try {
      this.#keep(await this.#follower.read());
    } catch (error) {
      this.#failure = { error };
      await this.leave();
      throw error;
    }
  }

  #keep(messages: readonly Message[]): void {
    if (this.#iterating) for (const message of messages) this.#events.push(toEvent(message));
    const last = messages.at(-1);
    if (last?.["kind"] === "run_finished") this.#result = toResult((last["run_finished"] as Message)["result"] as Message);
  }

  async #leave(): Promise<void> {
    const underWay = this.#follower.attached;
    this.#follower.attached = false;
    this.#forget();
    // The stream first: a start that is still on its way ends with it, so it cannot arrive after the cancel.
    this.#follower.close(this.#leftEarly());
    if (!underWay) return;
    // If this fails, the server cancels the run once the reconnect window has passed.
    const cancel = this.#cancel("its caller left before the end", { timeout: CANCEL_WITHIN }).catch(() => undefined);
    const waiting = new AbortController();
    await Promise.race([cancel, pause(LEAVE_WITHIN, waiting.signal).catch(() => undefined)]);
    waiting.abort();
  }

  async #cancel(reason: string, options: CallOptions): Promise<Run> {
    const response = await this.#link.call("CancelRun", { run_id: this.runId, reason }, options);
    return toObject("Run", response["run"] as Message) as Run;
  }

  #leftEarly(): StepwaveError {
    const hint = `client.wait("${this.runId}", { check: false }) returns its result`;
    return new StepwaveError(`the run was left before its end, which cancelled it; ${hint}`);
  }
}
