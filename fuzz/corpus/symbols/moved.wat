;; The side file of an optimised component: code whose pieces were elsewhere, in the two modules behind it.
(component
  (core module
    (func (param i32) (result i32)
      nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop
      (local.get 0))
    (func (export "go") (param i32) (result i32)
      nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop
      nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop
      (call 0 (local.get 0)))
    (@custom "tenon:moved" "\00\00\04\1a\01\08\0a\00\30"))
  (core module
    (func $sum (param i32) (result i32)
      nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop
      (local.get 0))
    (func $go (export "go") (param i32) (result i32)
      nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop
      nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop
      (call 0 (local.get 0))))
  (core module
    (func $sum (param i32) (result i32)
      nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop
      (local.get 0))
    (func $go (export "go") (param i32) (result i32)
      nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop
      nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop nop
      (call 0 (local.get 0)))
    (@custom ".debug_loc" "\ff\ff\ff\ff\02\00\00\00\06\00\00\00\09\00\00\00\04\00\ed\02\00\9f\00\00\00\00\00\00\00\00")
    (@custom ".debug_abbrev" "\01\11\01\25\0e\13\05\03\0e\10\17\1b\0e\11\01U\17\00\00\02.\01\03\0e\3a\0b\3b\0b\27\19I\13 \0b\00\00\03\05\00\03\0e\3a\0b\3b\0bI\13\00\00\04\24\00\03\0e\3e\0b\0b\0b\00\00\05.\01\11\01\12\06\40\18\97B\19\03\0e\3a\0b\3b\0b\27\19I\13\3f\19\00\00\06\05\00\02\18\03\0e\3a\0b\3b\0bI\13\00\00\07\1d\011\13\11\01\12\06X\0bY\0bW\0b\00\00\08\05\00\02\171\13\00\00\094\00\02\18\03\0e\3a\0b\3b\0bI\13\00\00\0a\89\82\01\001\13\11\01\00\00\0b\0f\00I\13\00\00\0c\16\00I\13\03\0e\3a\0b\3b\0b\00\00\0d\13\01\0b\0b\3a\0b\3b\0b\00\00\0e\0d\00\03\0eI\13\3a\0b\3b\0b8\0b\00\00\00")
    (@custom ".debug_info" "\f5\00\00\00\04\00\00\00\00\00\04\01\23\00\00\00\1d\00\1b\00\00\00\00\00\00\008\00\00\00\00\00\00\00\00\00\00\00\02\15\00\00\00\01\02\3e\00\00\00\01\03\04\00\00\00\01\02\3e\00\00\00\00\04\08\00\00\00\05\04\05\02\00\00\00\10\00\00\00\07\ed\03\00\00\00\00\9f\11\00\00\00\01\03\3e\00\00\00\06\04\ed\00\00\9f\0c\00\00\00\01\03\cb\00\00\00\07\26\00\00\00\0a\00\00\00\01\00\00\00\01\036\08\00\00\00\002\00\00\00\00\00\05\13\00\00\00K\00\00\00\04\ed\00\01\9f\0e\00\00\00\01\04\3e\00\00\00\06\04\ed\00\00\9f\04\00\00\00\01\04\3e\00\00\00\09\02\91\08\0c\00\00\00\01\05\d0\00\00\00\0aE\00\00\00N\00\00\00\00\0b\d0\00\00\00\0c\db\00\00\00\06\00\00\00\01\01\0d\08\01\01\0e\02\00\00\00\3e\00\00\00\01\01\00\0e\00\00\00\00\3e\00\00\00\01\01\04\00\00")
    (@custom ".debug_ranges" "\02\00\00\00\12\00\00\00\13\00\00\00\5e\00\00\00\00\00\00\00\00\00\00\00")
    (@custom ".debug_str" "y\00x\00v\00point\00p\00go\00sum\00twice\00small.c\00clang version 22.1.8\00.\00")
    (@custom ".debug_line" "r\00\00\00\04\00\1f\00\00\00\01\01\01\fb\0e\0d\00\01\01\01\01\00\00\00\01\00\00\01\00small.c\00\00\00\00\00\05\3f\0a\00\05\02\03\00\00\00\14\06U\05\24\060\05G\21\05B\06X\05/ \02\01\00\01\01\00\05\02\13\00\00\00\15\05\0d\0a\08\3d\05\14\06\c8\05\0d \05\09\06\91\05\0f\06\3c\03z \05\0a\06\27\ac\05\03\06.\02\0e\00\01\01"))
)
