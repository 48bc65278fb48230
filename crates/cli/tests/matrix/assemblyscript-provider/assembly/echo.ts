import { Colour, Perms, Person, Scalars, Shape } from "./wit/test-matrix-echo";
import { Option, Result, Tuple2, char, err, ok } from "./wit/abi";

export function scalarsOf(v: Scalars): Scalars { return v; }
export function truth(v: bool): bool { return v; }
export function unsigned(v: u64): u64 { return v; }
export function signed(v: i64): i64 { return v; }
export function single(v: f32): f32 { return v; }
export function double(v: f64): f64 { return v; }
export function letter(v: char): char { return v; }
export function text(v: string): string { return v; }
export function bytes(v: Uint8Array): Uint8Array { return v; }
export function nested(v: Array<Array<string>>): Array<Array<string>> { return v; }
export function pair(v: Tuple2<u32, string>): Tuple2<u32, string> { return v; }
export function people(v: Array<Person>): Array<Person> { return v; }
export function shapeOf(v: Shape): Shape { return v; }
export function colourOf(v: Colour): Colour { return v; }
export function permsOf(v: Perms): Perms { return v; }
export function maybe(v: Option<string>): Option<string> { return v; }
export function outcome(fails: bool, number: u32, reason: string): Result<u32, string> {
  return fails ? err<u32, string>(reason) : ok<u32, string>(number);
}
