/** The contract at run time: the methods of the service, and messages turned into JavaScript's values. */

import * as loader from "@grpc/proto-loader";
import type { MethodDefinition } from "@grpc/grpc-js";
import { fileURLToPath } from "node:url";

import { seconds as checkSeconds } from "./checks.js";
import { fromPayload } from "./values.js";

/** A message as `@grpc/proto-loader` reads and writes it: the names of its fields are those of the `.proto` files. */
export type Message = Record<string, any>;

export type Method = MethodDefinition<Message, Message>;

interface Field {
  readonly name: string;
  readonly label: string;
  readonly type: string;
  readonly typeName: string;
}

interface Shape {
  readonly field: readonly Field[];
  readonly nestedType: readonly (Shape & { readonly name: string })[];
}

// Without `keepCase`, the loader expects camelCase names, and silently drops fields that are spelled otherwise.
const definition = loader.loadSync(["stepwave/v1/orchestrator.proto", "error_details.proto"], {
  includeDirs: [fileURLToPath(new URL("./proto/", import.meta.url))],
  keepCase: true,
  enums: String,
  longs: Number,
  defaults: true,
  oneofs: true,
});

const service = definition["stepwave.v1.OrchestratorService"] as unknown as Record<string, Method>;

/** Return a method of the service. */
export function method(name: string): Method {
  const found = service[name];
  if (!found) throw new TypeError(`the contract has no method ${name}`);
  return found;
}

/** Decode a message of `google.rpc`. */
export function decode(name: string, bytes: Uint8Array): Message {
  const type = definition[`google.rpc.${name}`] as unknown as { deserialize(bytes: Buffer): Message };
  return type.deserialize(Buffer.from(bytes));
}

/**
 * Turn a message of `stepwave.v1` into an object with camelCase names.
 *
 * Times become a `Date`, durations a number of seconds, payloads their value, and enums their name in lower case without
 * its prefix. A field that is not set is left out.
 */
export function toObject(name: string, message: Message): Message {
  const found: Message = {};
  for (const { name: from, to, read } of readersOf(name)) {
    const value: unknown = message[from];
    if (value !== undefined && value !== null) found[to] = read(value);
  }
  return found;
}

/** Turn a number of seconds into a `google.protobuf.Duration`. */
export function duration(name: string, value: number | undefined): Message | undefined {
  const seconds = checkSeconds(name, value);
  if (seconds === undefined) return undefined;
  const whole = Math.floor(seconds);
  const nanos = Math.round((seconds - whole) * 1e9);
  return nanos === 1e9 ? { seconds: whole + 1, nanos: 0 } : { seconds: whole, nanos };
}

/** Turn a `Date` into a `google.protobuf.Timestamp`. */
export function timestamp(name: string, date: Date | undefined): Message | undefined {
  if (date === undefined) return undefined;
  if (!(date instanceof Date) || Number.isNaN(date.getTime())) throw new TypeError(`${name} is a valid Date`);
  const seconds = Math.floor(date.getTime() / 1000);
  return { seconds, nanos: (date.getTime() - seconds * 1000) * 1e6 };
}

/** Return the name of an enum's value: `enumName("State", "failed")` is `STATE_FAILED`. */
export function enumName(name: string, value: string): string {
  const { type } = definition[`stepwave.v1.${name}`] as unknown as { type: { value: readonly { name: string }[] } };
  const prefix = prefixOf(name);
  const names = type.value.map((each) => each.name);
  const found = `${prefix}${String(value).toUpperCase()}`;
  if (names.includes(found)) return found;
  const known = names.slice(1).map((each) => each.slice(prefix.length).toLowerCase());
  throw new TypeError(`'${String(value)}' is none of ${known.join(", ")}`);
}

/** How a field of a message is turned into a property. */
interface Reader {
  readonly name: string;
  readonly to: string;
  readonly read: (value: unknown) => unknown;
}

const READERS = new Map<string, readonly Reader[]>();

function readersOf(name: string): readonly Reader[] {
  const known = READERS.get(name);
  if (known) return known;
  const shape = (definition[`stepwave.v1.${name}`] as unknown as { type: Shape }).type;
  const made = shape.field.map((field) => ({ name: field.name, to: camelCase(field.name), read: readerOf(shape, field) }));
  READERS.set(name, made);
  return made;
}

function readerOf(shape: Shape, field: Field): (value: unknown) => unknown {
  const entries = [field.typeName, `${field.typeName}Entry`];
  const map = shape.nestedType.find((nested) => entries.includes(nested.name));
  const item = map?.field.find((part) => part.name === "value");
  if (item) return (value) => Object.fromEntries(Object.entries(value as object).map(([key, of]) => [key, single(item, of)]));
  if (field.label === "LABEL_REPEATED") return (value) => (value as unknown[]).map((of) => single(field, of));
  return (value) => single(field, value);
}

function single(field: Field, value: unknown): unknown {
  const name = field.typeName.split(".").at(-1)!;
  if (field.type === "TYPE_ENUM") return enumValue(name, String(value));
  return field.type === "TYPE_MESSAGE" ? messageValue(name, value as Message) : value;
}

function messageValue(name: string, message: Message): unknown {
  switch (name) {
    case "Timestamp":
      return new Date(message["seconds"] * 1000 + message["nanos"] / 1e6);
    case "Duration":
      return message["seconds"] + message["nanos"] / 1e9;
    case "Payload":
      return fromPayload(message);
    default:
      return toObject(name, message);
  }
}

function enumValue(name: string, value: string): string {
  const prefix = prefixOf(name);
  return (value.startsWith(prefix) ? value.slice(prefix.length) : value).toLowerCase();
}

function prefixOf(name: string): string {
  return `${name.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase()}_`;
}

function camelCase(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
