//! `tenon compile-worker`: compiles for a node, in a process of its own. Not for people.

use crate::error::CommandError;
use crate::process;

pub(crate) fn run() -> Result<(), CommandError> {
    process::take_huge_pages();
    tenon_node::compile_worker(std::io::stdin().lock(), std::io::stdout().lock())
        .map_err(|error| CommandError::ours("the compiler could not be asked", &error))
}
