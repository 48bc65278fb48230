;; A module that imports what nobody has, and keeps its memory for itself.
(module
  (import "env" "tick" (func (param i64)))
  (import "wasi_snapshot_preview1" "sock_open" (func (param i32) (result i32)))
  (memory 1)
  (table 2 funcref)
  (global (mut i32) (i32.const 8))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
  (func (export "handle") (param i32) (result i32) (local.get 0)))
