// What this component exports: the interface demo:shop/cache.
import { Option, none, some } from "./wit/abi";

const ENTRIES_MAX: i32 = 64;
const BYTES_MAX: i32 = 256 << 10;

/** A value larger than this would drive out too many others. */
const VALUE_BYTES_MAX: i32 = 32 << 10;

class Entry {
  constructor(public value: Uint8Array, public until: u64) {}
}

// A map keeps the order in which its keys were set; whoever is asked for is set anew, so the first one is the one that
// was not asked for the longest.
const entries = new Map<string, Entry>();
let bytes: i32 = 0;

export function get(key: string, now: u64): Option<Uint8Array> {
  if (!entries.has(key)) return none<Uint8Array>();
  const entry = entries.get(key);
  remove(key);
  if (entry.until <= now) return none<Uint8Array>();
  insert(key, entry);
  return some<Uint8Array>(entry.value);
}

export function put(key: string, value: Uint8Array, until: u64): void {
  remove(key);
  if (cost(key, value) > VALUE_BYTES_MAX) return;
  insert(key, new Entry(value, until));
  while (entries.size > ENTRIES_MAX || bytes > BYTES_MAX) remove(eldest());
}

export function remove(key: string): void {
  if (!entries.has(key)) return;
  bytes -= cost(key, entries.get(key).value);
  entries.delete(key);
}

export function size(): u32 {
  return entries.size;
}

function insert(key: string, entry: Entry): void {
  entries.set(key, entry);
  bytes += cost(key, entry.value);
}

function eldest(): string {
  return entries.keys()[0];
}

function cost(key: string, value: Uint8Array): i32 {
  return (key.length << 1) + value.length;
}
