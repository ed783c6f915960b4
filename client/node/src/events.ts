/** Turns events of the contract into typed ones. */

import { toObject, type Message } from "./contract.js";
import type { RunEvent, RunResult } from "./types.js";

/** Return the event of a message. */
export function toEvent(message: Message): RunEvent {
  const event = toObject("RunEvent", { ...message, [message["kind"] as string]: undefined });
  const type = (message["kind"] as string | undefined) ?? "unknown";
  return { ...kindFields(type, message[type] as Message | undefined), ...event, type } as RunEvent;
}

/** Return the result of a message. */
export function toResult(message: Message): RunResult {
  return toObject("Result", message) as RunResult;
}

function kindFields(type: string, message: Message | undefined): Message {
  if (!message) return {};
  const name = type.replace(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase());
  const { runId, ...fields } = toObject(name, message);
  return type === "steps_reused" ? { ...fields, earlierRunId: runId } : fields;
}
