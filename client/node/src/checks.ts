/** Checks of what a caller gives: without them, a misspelt option would be dropped without a word. */

/** The names of all options of a type. */
export type Names<Options> = Readonly<Record<keyof Options, true>>;

/** Check that all options are known. */
export function checkNames<Options extends object>(what: string, options: Options, names: Names<Options>): void {
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(names, name));
  if (unknown === undefined) return;
  throw new TypeError(`${what}: there is no option '${unknown}'; known: ${Object.keys(names).join(", ")}`);
}

/** Return a number of seconds, from 0. */
export function seconds(name: string, value: number | undefined): number | undefined {
  if (value === undefined || (Number.isFinite(value) && value >= 0)) return value;
  throw new RangeError(`${name} is a number of seconds, got ${String(value)}`);
}

/** Return a whole number, from 0. */
export function count(name: string, value: number | undefined): number | undefined {
  if (value === undefined || (Number.isInteger(value) && value >= 0 && value < 2 ** 32)) return value;
  throw new RangeError(`${name} is a whole number, got ${String(value)}`);
}
