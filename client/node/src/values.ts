/** Values of the contract: JSON and blobs, and references to values that only the run will have. */

import type { Message } from "./contract.js";

/** A value that JSON can hold. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** The input of a run, or the output of a step. */
export type Value = Json | Bytes;

/** Bytes that are not JSON, and their media type. */
export class Bytes {
  readonly data: Uint8Array;

  /** @throws {TypeError} The data are no bytes, such as a string: `new TextEncoder().encode(text)` gives its bytes. */
  constructor(
    data: Uint8Array | ArrayBuffer,
    readonly contentType: string = "application/octet-stream",
  ) {
    const bytes: unknown = data instanceof ArrayBuffer ? new Uint8Array(data) : data;
    if (!(bytes instanceof Uint8Array)) throw new TypeError("Bytes takes a Uint8Array or an ArrayBuffer");
    this.data = bytes;
  }
}

/** What a value is taken from, as the fields of a `Binding`. */
type Source = Message;

const SOURCE = Symbol("source");

/**
 * A value, or part of it, that only the run will have: `step.output`, `flow.input` or `flow.item`.
 *
 * `reference["key"]`, `reference.key` and `reference[0]` are its parts.
 */
export interface Reference {
  readonly [key: string]: Reference;
  readonly [index: number]: Reference;
}

/** A value that is put into an input, and is no reference to a part of another. */
export class Bound {
  constructor(
    /** The fields of its `Binding`, without the target. */
    readonly fields: Source,
    /** The workflow that it belongs to; `undefined`: any. */
    readonly owner: unknown = undefined,
  ) {}
}

/** A step's input: JSON, bytes, and references and other bound values at any depth. */
export type Input = Value | Reference | Bound | readonly Input[] | { readonly [key: string]: Input };

/** Return a CEL expression as a value. The step must depend on the steps whose outputs it uses. */
export function cel(expression: string): Bound {
  return new Bound({ expression });
}

/** Return a secret of the server as a value. */
export function secret(name: string): Bound {
  return new Bound({ secret: name });
}

/** Return a reference with a value to use if its source has none. */
export function withDefault(reference: Reference, value: Json): Bound {
  const bound = boundOf(reference);
  if (!bound) throw new TypeError("withDefault takes a reference, such as step.output");
  return new Bound({ ...bound.fields, default: toPayload(value) }, bound.owner);
}

/** Return a reference to a value of a workflow. */
export function reference(owner: unknown, make: (pointer: string) => Source, pointer = ""): Reference {
  const handler: ProxyHandler<object> = {
    ownKeys: refuse, // by a spread, `Object.keys` or `JSON.stringify`, which would lose the reference
    get(_, key) {
      if (key === SOURCE) return new Bound(make(pointer), owner);
      if (key === Symbol.toPrimitive) return refuse;
      return typeof key === "symbol" ? undefined : reference(owner, make, `${pointer}/${escape(key)}`);
    },
  };
  return new Proxy(Object.freeze({}), handler) as Reference;
}

/** Return what a reference or a bound value puts into an input; `undefined`: it is neither. */
export function boundOf(value: unknown): Bound | undefined {
  if (value instanceof Bound) return value;
  return typeof value === "object" && value !== null ? (value as { [SOURCE]?: Bound })[SOURCE] : undefined;
}

/**
 * Turn a value into a `Payload`.
 *
 * @throws {TypeError} JSON cannot hold the value. The message has the JSON Pointer to it.
 */
export function toPayload(value: unknown): Message {
  const bindings: Message[] = [];
  const payload = split(value, undefined, bindings);
  if (bindings.length > 0) throw new TypeError("a reference has a value in the input of a step alone");
  return payload!;
}

/** Return the value of a `Payload`. */
export function fromPayload(payload: Message): Value | undefined {
  if (payload["body"] === "json") return JSON.parse(payload["json"] as string) as Json;
  if (payload["body"] !== "blob") return undefined;
  const { data, content_type } = payload["blob"] as { data: Uint8Array; content_type: string };
  return new Bytes(data, content_type || undefined);
}

/**
 * Separate the references of an input from its fixed part, which is returned as a `Payload`. Each becomes a `Binding` and
 * leaves `null` in its place. An input that is one reference has no fixed part.
 */
export function split(value: unknown, owner: unknown, bindings: Message[]): Message | undefined {
  if (value instanceof Bytes) return { blob: { data: value.data, content_type: value.contentType } };
  const whole = boundOf(value) !== undefined;
  const fixed = strip(value, "", owner, bindings, 0);
  return whole ? undefined : { json: JSON.stringify(fixed) };
}

const MAX_DEPTH = 100; // as the server's

function strip(value: unknown, here: string, owner: unknown, bindings: Message[], depth: number): unknown {
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number" && Number.isFinite(value)) return value;
  if (typeof value !== "object") throw notJson(here, value);
  const bound = boundOf(value);
  if (bound) return bind(bound, here, owner, bindings);
  if (depth > MAX_DEPTH) throw new TypeError(`${place(here)}: it is nested too deeply, or contains itself`);
  const inner = (item: unknown, key: string | number) =>
    strip(item, `${here}/${escape(String(key))}`, owner, bindings, depth + 1);
  if (Array.isArray(value)) return value.map(inner);
  if (value instanceof Date) return value.toJSON();
  if (![Object.prototype, null].includes(Object.getPrototypeOf(value) as object | null)) throw notJson(here, value);
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(entries.map(([key, item]) => [key, inner(item, key)]));
}

function bind(bound: Bound, target: string, owner: unknown, bindings: Message[]): null {
  if (bound.owner !== undefined && owner !== undefined && bound.owner !== owner) {
    throw new TypeError(`${place(target)}: the reference belongs to another workflow`);
  }
  bindings.push({ target, ...bound.fields });
  return null;
}

function notJson(here: string, value: unknown): TypeError {
  const name = typeof value === "object" && value !== null ? value.constructor.name : String(value);
  const hint = name === "StepHandle" ? "; pass the step's output" : "";
  return new TypeError(`${place(here)}: JSON cannot hold ${name}${hint}`);
}

function place(pointer: string): string {
  return pointer || "the input";
}

function escape(key: string): string {
  return key.replaceAll("~", "~0").replaceAll("/", "~1");
}

function refuse(): never {
  throw new TypeError("a reference has no value yet: pass it as the input of a step");
}
