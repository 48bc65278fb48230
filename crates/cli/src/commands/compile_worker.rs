//! `tenon compile-worker`: compiles for a node, in a process of its own. Not for people.

use crate::error::CommandError;

pub(crate) fn run() -> Result<(), CommandError> {
    tenon_node::compile_worker(std::io::stdin().lock(), std::io::stdout().lock())
        .map_err(|error| CommandError::ours("the compiler could not be asked", &error))
}
