;; The code of `lines.wat`, as a tool that strips would leave it.
(module
  (func (param i32) (result i32)
    nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop
    (local.get 0))
  (func (export "go") (param i32) (result i32)
    nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop
    nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop
    (call 0 (local.get 0))))
