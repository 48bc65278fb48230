//! One file a command.

pub(crate) mod apps;
pub(crate) mod authority;
pub(crate) mod build;
pub(crate) mod call;
pub(crate) mod change;
pub(crate) mod compile;
pub(crate) mod componentize;
pub(crate) mod compose;
pub(crate) mod crash;
pub(crate) mod deploy;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod graph;
pub(crate) mod inspect;
pub(crate) mod logs;
pub(crate) mod new;
pub(crate) mod reference;
pub(crate) mod rollout;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod tenant;
pub(crate) mod test;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod wit;
