(module (func (export "verify-token")))
