//! What a core module is once it has been started.

/// The state of a core module after its `_initialize` has run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Initialized {
    /// All of its memory.
    pub memory: Vec<u8>,
    /// The values of the globals that were asked for, in that order.
    pub globals: Vec<Number>,
    /// Where in its memory the adapter of WASI 0.1 was given its 16 bytes.
    pub area: u32,
}

/// A number of a core module, as the bits it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// 32 bits of an integer.
    I32(i32),
    /// 64 bits of an integer.
    I64(i64),
    /// The bits of a 32-bit float.
    F32(u32),
    /// The bits of a 64-bit float.
    F64(u64),
}
