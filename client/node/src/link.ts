/** A client's link to its server: calls, retried while the server does not answer. */

import { setTimeout as sleep } from "node:timers/promises";

import { checkNames, seconds, type Names } from "./checks.js";
import type { Connection } from "./connection.js";
import type { Message } from "./contract.js";
import { DeadlineExceeded, LimitExceeded, ServerUnavailable } from "./errors.js";

/** The time limits of a client's calls, in seconds. */
export interface LinkSettings {
  readonly namespace: string;
  readonly timeout: number;
  readonly connectTimeout: number;
  readonly reconnectWindow: number;
}

export interface CallOptions {
  /** Aborts the call: it rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** The longest that the call may take, in seconds, with all its attempts. */
  readonly timeout?: number | undefined;
}

/** The names of the options of calls. */
export const CALL: Names<CallOptions> = { signal: true, timeout: true };

const FIRST_PAUSE = 0.1;
const LONGEST_PAUSE = 5;
const SHORTEST_ATTEMPT = 1; // to connect, also with a window of 0

/** Return the time of a monotonic clock, in seconds. */
export function now(): number {
  return performance.now() / 1000;
}

/** Wait, in seconds. Rejects with the signal's reason if it aborts. */
export async function pause(seconds: number, signal?: AbortSignal): Promise<void> {
  await sleep(seconds * 1000, undefined, signal && { signal }).catch(() => signal?.throwIfAborted());
}

/**
 * Pauses between attempts of a call, until a window has passed without success.
 *
 * Exponential backoff with full jitter (Marc Brooker, "Exponential Backoff and Jitter"): the longest pause doubles from
 * 0.1 s to 5 s, and each pause is a random part of it.
 */
export class Backoff {
  #longest = 0;
  #since: number | undefined;

  constructor(readonly window: number) {}

  /** Begin the window unless it has begun, and return how long an attempt may take to connect, in seconds. */
  begin(): number {
    this.#since ??= now();
    return Math.max(SHORTEST_ATTEMPT, this.#since + this.window - now());
  }

  /** Return how long to wait before the next try; `undefined`: the window has passed, or no other try would succeed. */
  next(error: ServerUnavailable | LimitExceeded | undefined): number | undefined {
    const asked = error instanceof LimitExceeded ? error.retryAfter : 0;
    const time = now();
    this.#since ??= time;
    const left = this.#since + this.window - time;
    if (asked === undefined || left <= 0) return undefined;
    this.#longest = this.#longest ? Math.min(LONGEST_PAUSE, 2 * this.#longest) : FIRST_PAUSE;
    return Math.max(asked, Math.min(left, Math.random() * this.#longest));
  }

  /** Reset the pauses and the window, after a success. */
  reset(): void {
    this.#longest = 0;
    this.#since = undefined;
  }
}

/** A connection with the settings of its calls. */
export class Link {
  constructor(
    readonly connection: Connection,
    readonly settings: LinkSettings,
  ) {}

  /** Make a call, and retry it while the server does not answer. All calls of the contract may be retried. */
  async call(name: string, request: Message, options: CallOptions = {}): Promise<Message> {
    checkNames(name, options, CALL);
    const { signal } = options;
    const timeout = seconds("timeout", options.timeout) ?? this.settings.timeout;
    const deadline = now() + timeout;
    const backoff = new Backoff(this.settings.connectTimeout);
    const addressed = { namespace: this.settings.namespace, ...request };
    for (let left = timeout; left > 0; left = deadline - now()) {
      try {
        await this.connection.ready(Math.min(left, backoff.begin()) * 1000, signal);
        return await this.connection.unary(name, addressed, Math.max(0, deadline - now()) * 1000, signal);
      } catch (error) {
        if (!(error instanceof ServerUnavailable || error instanceof LimitExceeded)) throw error;
        const next = backoff.next(error);
        if (next === undefined) throw error;
        await pause(Math.min(next, Math.max(0, deadline - now())), signal);
      }
    }
    throw new DeadlineExceeded(`${name}: no answer from ${this.connection.address} in time`);
  }

  /** Yield the items of a list. Each page is requested when it is wanted. */
  async *pages(name: string, field: string, request: Message, options: CallOptions = {}): AsyncGenerator<Message, void> {
    let page_token = "";
    do {
      const page = await this.call(name, { ...request, page_token }, options);
      yield* page[field] as Message[];
      page_token = page["next_page_token"] as string;
    } while (page_token);
  }
}
