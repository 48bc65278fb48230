//! Guest toolchains: from a folder of source and a contract to a component.
//!
//! One module a language behind one trait, `Toolchain`. [`build`] is the journey of one component: is it built
//! already → is the toolchain there → run it → is the result what the contract says → write it. [`build_project`]
//! takes that journey for several components at once.
//!
//! This room runs programs and touches the files it is told to. It has no terminal, no environment and no home
//! directory: the paths come in [`Job`] and [`Toolbox`], the environment in [`Host`], and what a person is to see
//! goes out through [`Progress`].

mod bindings;
mod component;
mod componentize;
mod contract;
mod doctor;
mod drift;
mod error;
mod fingerprint;
mod host;
mod job;
mod language;
mod optimizer;
mod packages;
mod process;
mod progress;
mod skeleton;
mod snapshot;
mod toolbox;
mod toolchain;

pub use bindings::bindings;
pub use componentize::{Adapter, Componentize, Componentized, componentize};
pub use contract::load_wit;
pub use doctor::{Check, State, doctor, doctor_optimizer};
pub use drift::{KNOWN, Known, Origin, drift, source_drift};
pub use error::BuildError;
pub use fingerprint::PRODUCT_FOLDERS;
pub use host::Host;
pub use job::{Built, Job, Link, Setting, build, build_project};
pub use language::detect;
pub use packages::{WitPackage, wit_packages};
pub use process::CommandError;
pub use progress::{Progress, Silent};
pub use skeleton::{Skeleton, WASI, skeleton, wasi, wasi_interfaces};
pub use snapshot::Initialize;
pub use tenon_model::Language;
pub use toolbox::{InstallError, Toolbox};
