/**
 * Follows one run: reads its events once and in order, and opens a new stream when one is lost.
 *
 * Invariant: after every read, `#last` is the number of the newest event that was returned, and the next stream begins
 * after it. So a lost stream neither loses nor repeats a numbered event.
 */

import type { MessageStream } from "./connection.js";
import type { Message } from "./contract.js";
import { DeadlineExceeded, LimitExceeded, NotFound, RunLost, ServerError, ServerUnavailable, StepwaveError } from "./errors.js";
import { Backoff, now, pause, type Link } from "./link.js";

export interface FollowOptions {
  /** The request for the run's events, with the number to begin after. */
  readonly watch: Message;
  /**
   * The request to start the run; `undefined`: it was started. It is sent again until the first message: its run id makes
   * that safe.
   */
  readonly execute?: Message | undefined;
  /** The longest that the run may take, in seconds. */
  readonly timeout?: number | undefined;
}

/** The events of one run. */
export class Follower {
  /** Whether the run's last event has been read. */
  ended = false;
  /** Whether this follower started or joined a run that may still be under way. */
  attached = false;
  readonly #link: Link;
  readonly #options: FollowOptions;
  readonly #deadline: number | undefined;
  readonly #chunks = new Map<string, readonly [number, number]>(); // by step: the attempt and the index of its next chunk
  #backoff: Backoff;
  #last: number;
  #received = false;
  #stream: Promise<MessageStream> | undefined;
  readonly #stop = new AbortController();

  constructor(link: Link, options: FollowOptions) {
    this.#link = link;
    this.#options = options;
    this.#last = (options.watch["after_sequence"] as number | undefined) ?? 0;
    this.#deadline = options.timeout === undefined ? undefined : now() + options.timeout;
    this.#backoff = new Backoff(link.settings.connectTimeout);
  }

  /** Open the first stream, which starts the run if there is an `execute` request. Idempotent. `read` has the errors. */
  open(): void {
    this.#current().catch(() => undefined);
  }

  /** Return the messages of the next events, at least one; none after the last. */
  async read(): Promise<readonly Message[]> {
    while (!this.ended) {
      this.#stop.signal.throwIfAborted();
      const found = await this.#attempt();
      if (found.message) {
        const events = this.#take(found.message);
        if (events.length > 0) return events;
      } else {
        await this.#pause(found.lost); // lost, or closed by a server that is stopping
      }
    }
    return [];
  }

  /** Free the stream, and open no other: reads reject with the reason. Idempotent. */
  close(reason: unknown): void {
    this.#stop.abort(reason);
    this.#free();
  }

  #free(): void {
    this.#stream?.then((stream) => (this.ended ? stream.finish() : stream.cancel())).catch(() => undefined);
    this.#stream = undefined;
  }

  async #attempt(): Promise<{ message?: Message | undefined; lost?: ServerUnavailable | LimitExceeded }> {
    try {
      const stream = await this.#current();
      return { message: await stream.read() };
    } catch (error) {
      this.#stop.signal.throwIfAborted();
      if (error instanceof ServerUnavailable) return { lost: error };
      if (error instanceof LimitExceeded && error.retryAfter !== undefined) return { lost: error };
      throw this.#refused(error);
    }
  }

  #current(): Promise<MessageStream> {
    this.#stream ??= this.#begin();
    return this.#stream;
  }

  async #begin(): Promise<MessageStream> {
    const { connection } = this.#link;
    const within = Math.min(this.#backoff.begin(), this.#timeLeft() ?? Infinity);
    await connection.ready(within * 1000, this.#stop.signal);
    this.#stop.signal.throwIfAborted();
    const left = this.#timeLeft();
    const { execute, watch } = this.#options;
    const first = execute !== undefined && !this.#received;
    const request = first ? execute : { ...watch, after_sequence: this.#last };
    this.attached = true;
    return connection.stream(first ? "ExecuteWorkflow" : "WatchRun", request, left && left * 1000);
  }

  #take(message: Message): readonly Message[] {
    if (!this.#received) {
      this.#received = true;
      this.#backoff = new Backoff(this.#link.settings.reconnectWindow);
    }
    this.#backoff.reset();
    const events = (message["events"] as Message[]).filter((event) => this.#isNew(event));
    if (this.#filters) this.#last = Math.max(this.#last, message["last_sequence"] as number); // these count as read
    if (events.at(-1)?.["kind"] === "run_finished") {
      this.ended = true;
      this.attached = false;
    }
    return events;
  }

  get #filters(): boolean {
    return ((this.#options.watch["kinds"] as unknown[] | undefined)?.length ?? 0) > 0;
  }

  #isNew(event: Message): boolean {
    const sequence = event["sequence"] as number;
    if (sequence === 0) return !this.#repeats(event);
    if (sequence <= this.#last) return false;
    if (sequence !== this.#last + 1 && !this.#filters) {
      throw new ServerError(`run '${this.#runId}': event ${sequence} came after event ${this.#last}`);
    }
    this.#last = sequence;
    return true;
  }

  /** Return whether a chunk was returned before: a new stream begins with all chunks so far. */
  #repeats(event: Message): boolean {
    if (event["kind"] !== "step_chunk") return false;
    const chunk = event["step_chunk"] as { step_id: string; attempt: number; index: number };
    const [attempt, following] = this.#chunks.get(chunk.step_id) ?? [0, 0];
    if (attempt === chunk.attempt && chunk.index < following) return true;
    this.#chunks.set(chunk.step_id, [chunk.attempt, chunk.index + 1]);
    return false;
  }

  async #pause(error: ServerUnavailable | LimitExceeded | undefined): Promise<void> {
    this.#free();
    const next = this.#backoff.next(error);
    const left = this.#timeLeft();
    if (next === undefined) {
      this.attached = false; // the server cancels the run itself when its reconnect window has passed
      throw this.#givenUp(error);
    }
    await pause(left === undefined ? next : Math.min(next, left), this.#stop.signal);
  }

  #givenUp(error: ServerUnavailable | LimitExceeded | undefined): StepwaveError {
    if (error && !this.#received) return error;
    const message = `lost the server at ${this.#link.connection.address}; it did not come back in ${this.#backoff.window} s`;
    return new ServerUnavailable(message, { cause: error });
  }

  #timeLeft(): number | undefined {
    if (this.#deadline === undefined) return undefined;
    const left = this.#deadline - now();
    if (left <= 0) throw this.#timedOut();
    return left;
  }

  #timedOut(cause?: unknown): DeadlineExceeded {
    return new DeadlineExceeded(`run '${this.#runId}' did not end within ${this.#options.timeout} s`, { cause });
  }

  /** Update `attached` after an error, and return a more specific one where there is one. */
  #refused(error: unknown): unknown {
    if (error instanceof DeadlineExceeded && this.#deadline !== undefined) return this.#timedOut(error);
    if (!this.#received) {
      this.attached = false; // a run with this id, if any, was not started here
    } else if (error instanceof NotFound) {
      this.attached = false;
      const { address } = this.#link.connection;
      const message = `run '${this.#runId}' is lost: the server at ${address} does not know it any more`;
      return new RunLost(message, { reason: error.reason, metadata: error.metadata, cause: error });
    }
    return error;
  }

  get #runId(): string {
    return this.#options.watch["run_id"] as string;
  }
}
