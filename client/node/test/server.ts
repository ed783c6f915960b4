/** Starts real servers: the command `stepwave` must be on the path. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export interface Server {
  readonly address: string;
  /** End the server at once, without a clean-up, and wait for its end. */
  kill(): Promise<void>;
  /** Send the server a signal. */
  signal(name: NodeJS.Signals): void;
}

/** Start a server, and return when it listens. */
export async function serve(options: readonly string[] = ["--journal", "memory"], listen = "127.0.0.1:0"): Promise<Server> {
  const others = Object.entries(process.env).filter(([name]) => !name.startsWith("STEPWAVE_"));
  const child = spawn("stepwave", ["serve", "--listen", listen, ...options], {
    env: Object.fromEntries(others),
    stdio: ["ignore", "pipe", "ignore"],
  });
  const ended = once(child, "exit");
  const lines = createInterface({ input: child.stdout });
  const [address] = (await Promise.race([once(lines, "line"), ended.then(() => [""])])) as [string];
  if (!address) throw new Error("the server did not start");
  return {
    address,
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
    signal(name) {
      child.kill(name);
    },
  };
}
