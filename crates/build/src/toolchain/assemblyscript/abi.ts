// The types that WIT has and AssemblyScript has not, and the memory that values are handed over in.
//
// A string is UTF-8 when it is handed over. Were it UTF-16, as it is within, the host would have to change it on its way to
// almost every other language, and some of them do not take a string that grows meanwhile.

/** A Unicode scalar value. */
export type char = u32;

/** The payload of a case that has none. */
export type Unit = u8;

/** A value of `T` that nobody reads. */
// @ts-ignore: decorator
@inline export function nothing<T>(): T {
  if (isReference<T>()) return changetype<T>(0);
  return <T>0;
}

export class Option<T> {
  constructor(readonly isSome: bool, private readonly payload: T) {}
  get isNone(): bool { return !this.isSome; }
  /** The value; traps when there is none. */
  get value(): T {
    if (!this.isSome) unreachable();
    return this.payload;
  }
}
export function some<T>(value: T): Option<T> { return new Option<T>(true, value); }
export function none<T>(): Option<T> { return new Option<T>(false, nothing<T>()); }

export class Result<T, E> {
  constructor(readonly isOk: bool, private readonly good: T, private readonly bad: E) {}
  get isErr(): bool { return !this.isOk; }
  /** The value; traps when there is an error. */
  get value(): T {
    if (!this.isOk) unreachable();
    return this.good;
  }
  /** The error; traps when there is none. */
  get error(): E {
    if (this.isOk) unreachable();
    return this.bad;
  }
}
export function ok<T, E>(value: T): Result<T, E> { return new Result<T, E>(true, value, nothing<E>()); }
export function err<T, E>(error: E): Result<T, E> { return new Result<T, E>(false, nothing<T>(), error); }

// What the host writes into lies outside the collector's heap: nothing refers to it while it is written.
export function cabi_realloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  if (!old) return size ? heap.alloc(size) : align;
  return heap.realloc(old, size);
}

export function release(pointer: usize, length: usize): void {
  if (length) heap.free(pointer);
}

/** Takes the string at `at` over: its memory is freed. */
export function liftString(at: usize): string {
  const pointer = load<usize>(at);
  const length = load<usize>(at, 4);
  if (!length) return "";
  const text = String.UTF8.decodeUnsafe(pointer, length);
  heap.free(pointer);
  return text;
}

/** Half of a surrogate pair is no character: it becomes U+FFFD. */
export function lowerString(text: string, at: usize): void {
  const length = <usize>String.UTF8.byteLength(text);
  const pointer: usize = length ? heap.alloc(length) : 1;
  String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, pointer, false, String.UTF8.ErrorMode.REPLACE);
  store<usize>(at, pointer);
  store<usize>(at, length, 4);
}

export function freeString(at: usize): void {
  release(load<usize>(at), load<usize>(at, 4));
}

export function liftBytes(at: usize): Uint8Array {
  const pointer = load<usize>(at);
  const length = load<usize>(at, 4);
  const bytes = new Uint8Array(<i32>length);
  if (length) {
    memory.copy(bytes.dataStart, pointer, length);
    heap.free(pointer);
  }
  return bytes;
}

export function lowerBytes(bytes: Uint8Array, at: usize): void {
  const length = <usize>bytes.length;
  const pointer: usize = length ? heap.alloc(length) : 1;
  memory.copy(pointer, bytes.dataStart, length);
  store<usize>(at, pointer);
  store<usize>(at, length, 4);
}
