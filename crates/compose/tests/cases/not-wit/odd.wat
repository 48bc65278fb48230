(component
  (core module $m)
  (core instance $i (instantiate $m))
  (export "module" (core module $m)))
