/** The connection to a server: its address, protection and credentials, and single attempts of calls. */

import { setMaxListeners } from "node:events";
import { readFileSync } from "node:fs";
import { BlockList, isIP } from "node:net";

import * as grpc from "@grpc/grpc-js";

import { method, type Message } from "./contract.js";
import { fromServiceError, ServerUnavailable, StepwaveError } from "./errors.js";

/** Where a client connects to, and how. Arguments that are not given come from the environment. */
export interface ConnectionOptions {
  /** The bearer token of all calls. Default: `$STEPWAVE_TOKEN`. It never goes over plain text to another machine. */
  readonly token?: string | undefined;
  /** Whether the connection is encrypted. Default: if `tlsCa` or `clientCert` is given. */
  readonly tls?: boolean | undefined;
  /** The file with the authorities to trust, in PEM. Default: `$STEPWAVE_TLS_CA`, else Node's own. */
  readonly tlsCa?: string | undefined;
  /** The file with the client's certificate and its chain, in PEM. Default: `$STEPWAVE_CLIENT_CERT`. */
  readonly clientCert?: string | undefined;
  /** The file with the certificate's private key, in PEM. Default: `$STEPWAVE_CLIENT_KEY`. */
  readonly clientKey?: string | undefined;
  /** Allow plain text, without a token, to another machine. Default: false. */
  readonly insecure?: boolean | undefined;
}

const DEFAULT_ADDRESS = "127.0.0.1:50051";
const CHANNEL = {
  "grpc.max_receive_message_length": 16 * 1024 * 1024,
  "grpc.max_send_message_length": -1, // the server has its own limit, which its error names
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  // To find a restarted server soon; gRPC's default pauses grow from one second to two minutes.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 2_000,
  "grpc.enable_retries": 0, // the client retries calls itself, within the caller's time limits
};

const CONNECT_WITHIN = 5_000; // ms for one attempt to connect, as in the Python SDK; gRPC itself has no limit
const { IDLE, CONNECTING } = grpc.connectivityState;

/** One connection, which its calls share. It is opened with the first call. */
export class Connection {
  readonly address: string;
  readonly #open: () => grpc.Client;
  readonly #token: string;
  #client: grpc.Client;
  #closed = false;

  /** @throws {TypeError} The address is malformed, or what is sent would be readable on the way. */
  constructor(address: string | undefined, options: ConnectionOptions) {
    this.address = address || process.env["STEPWAVE_SERVER"] || DEFAULT_ADDRESS;
    this.#token = checkToken(options.token || process.env["STEPWAVE_TOKEN"] || "");
    const credentials = credentialsOf(options);
    checkAddress(this.address);
    checkProtection(this.address, credentials._isSecure(), this.#token, options.insecure ?? false);
    const proxy = { "grpc.enable_http_proxy": isLocal(this.address) ? 0 : 1 };
    this.#open = () => new grpc.Client(this.address, credentials, { ...CHANNEL, ...proxy });
    this.#client = this.#open();
  }

  /**
   * Wait until a call can be sent, or fails at once. It must be awaited before each call.
   *
   * @param within The longest time, in milliseconds.
   * @throws {ServerUnavailable} The server accepts the connection, and says nothing.
   */
  async ready(within: number, signal: AbortSignal | undefined): Promise<void> {
    const deadline = Date.now() + within;
    for (;;) {
      signal?.throwIfAborted();
      if (this.#closed) throw new StepwaveError("this client is closed");
      const client = this.#client;
      const channel = client.getChannel();
      const state = channel.getConnectivityState(true);
      if (state !== IDLE && state !== CONNECTING) return;
      const until = Math.min(deadline, Date.now() + CONNECT_WITHIN);
      if (await changed(channel, state, until, signal)) continue;
      if (client === this.#client && !this.#closed) {
        this.#client = this.#open(); // the next attempt is a new connection
        client.close();
      }
      if (Date.now() >= deadline) throw new ServerUnavailable(`no server at ${this.address} (it does not answer)`);
    }
  }

  /** Make a call. `within` is in milliseconds. Rejects with the signal's reason if it aborts. */
  unary(name: string, request: Message, within: number, signal?: AbortSignal): Promise<Message> {
    const { path, requestSerialize, responseDeserialize } = method(name);
    return new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + within };
      const metadata = this.#metadata();
      const answer: grpc.requestCallback<Message> = (error, response) => {
        forget();
        if (signal?.aborted) reject(signal.reason as Error);
        else if (error) reject(fromServiceError(error, this.address));
        else resolve(response!);
      };
      const types = [requestSerialize, responseDeserialize] as const;
      const call = this.#client.makeUnaryRequest(path, ...types, request, metadata, options, answer);
      const forget = onAbort(signal, () => call.cancel());
    });
  }

  /** Begin a streaming call. `within` is in milliseconds; `undefined`: no limit. */
  stream(name: string, request: Message, within: number | undefined): MessageStream {
    const { path, requestSerialize, responseDeserialize } = method(name);
    const options = within === undefined ? {} : { deadline: Date.now() + within };
    const types = [requestSerialize, responseDeserialize] as const;
    const call = this.#client.makeServerStreamRequest(path, ...types, request, this.#metadata(), options);
    return new MessageStream(call, this.address);
  }

  close(): void {
    this.#closed = true;
    this.#client.close();
  }

  #metadata(): grpc.Metadata {
    const metadata = new grpc.Metadata();
    if (this.#token) metadata.set("authorization", `Bearer ${this.#token}`);
    return metadata;
  }
}

/** Wait until the state of a channel is another one, or the signal aborts; false: it is the same at the deadline. */
function changed(
  channel: ReturnType<grpc.Client["getChannel"]>,
  state: grpc.connectivityState,
  deadline: number,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  return new Promise((resolve) => {
    const forget = onAbort(signal, () => resolve(true));
    channel.watchConnectivityState(state, deadline, (error) => {
      forget();
      resolve(!error);
    });
  });
}

/** Call a function when a signal aborts, or now if it has. Returns what makes it forget the function. */
export function onAbort(signal: AbortSignal | undefined, call: (reason: unknown) => void): () => void {
  if (!signal) return () => undefined;
  // Each run and call has one listener. Node warns of a leak at eleven, and many runs may share one signal.
  if (signal instanceof AbortSignal) setMaxListeners(0, signal);
  const listener = () => call(signal.reason);
  if (signal.aborted) listener();
  else signal.addEventListener("abort", listener);
  return () => signal.removeEventListener("abort", listener);
}

/** The messages of one streaming call, read one by one. A slow reader slows the call, by HTTP/2's flow control. */
export class MessageStream {
  readonly #call: grpc.ClientReadableStream<Message>;
  readonly #messages: Message[] = [];
  #failure: Error | undefined;
  #ended = false;
  #wake: () => void = () => {};

  constructor(call: grpc.ClientReadableStream<Message>, address: string) {
    this.#call = call;
    call.on("data", (message: Message) => {
      call.pause();
      this.#messages.push(message);
      this.#wake();
    });
    // The error may come while messages before it are unread. The end comes after them.
    call.on("error", (error) => (this.#failure = fromServiceError(error as grpc.ServiceError, address)));
    call.on("end", () => {
      this.#ended = true;
      this.#wake();
    });
    call.pause();
  }

  /** Return the next message; `undefined`: the call has ended. */
  async read(): Promise<Message | undefined> {
    if (this.#messages.length === 0 && !this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        this.#call.resume();
      });
    }
    const message = this.#messages.shift();
    if (!message && this.#failure) throw this.#failure;
    return message;
  }

  /** Free a call whose last message was read: it ends by itself. */
  finish(): void {
    this.#call.resume();
  }

  /** Cancel the call. No effect on one that has ended. */
  cancel(): void {
    this.#call.cancel();
    this.#call.resume();
  }
}

function credentialsOf(options: ConnectionOptions): grpc.ChannelCredentials {
  const file = (name: string, path: string | undefined) => {
    const chosen = path || process.env[name];
    return chosen ? readFileSync(chosen) : null;
  };
  const authority = file("STEPWAVE_TLS_CA", options.tlsCa);
  const certificate = file("STEPWAVE_CLIENT_CERT", options.clientCert);
  const key = file("STEPWAVE_CLIENT_KEY", options.clientKey);
  if ((certificate === null) !== (key === null)) throw new TypeError("clientCert and clientKey belong together: give both");
  const wanted = options.tls ?? (authority !== null || certificate !== null);
  return wanted ? grpc.credentials.createSsl(authority, key, certificate) : grpc.credentials.createInsecure();
}

/** Return a token without the white space around it. The error does not show the token. */
function checkToken(token: string): string {
  const stripped = token.trim();
  if (/^[\x21-\x7e]*$/.test(stripped)) return stripped;
  throw new TypeError("the token has characters that no token has");
}

function checkAddress(address: string): void {
  if (isSocket(address) || (/:\d+$/.test(address) && !address.includes("://"))) return;
  throw new TypeError(`an address is HOST:PORT or unix:PATH, got '${address}'`);
}

function checkProtection(address: string, encrypted: boolean, token: string, insecure: boolean): void {
  if (encrypted || isLocal(address)) return;
  const other = `${address} is another machine, and`;
  if (token) throw new TypeError(`${other} a token never goes there as plain text: encrypt with tls or tlsCa`);
  if (insecure) return;
  const ways = "encrypt with tls or tlsCa, or pass insecure to allow plain text";
  throw new TypeError(`${other} the connection is not encrypted: ${ways}`);
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/** Return whether an address is a socket of this machine or its loopback interface. */
function isLocal(address: string): boolean {
  if (isSocket(address)) return true;
  return address.replace(/^ipv[46]:/, "").split(",").every(isLoopback);
}

function isLoopback(address: string): boolean {
  const host = address.slice(0, address.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  return host === "localhost" || (isIP(host) !== 0 && LOOPBACK.check(host, isIP(host) === 4 ? "ipv4" : "ipv6"));
}

function isSocket(address: string): boolean {
  return address.startsWith("unix:") || address.startsWith("unix-abstract:");
}
