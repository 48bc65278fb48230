//! The words Tenon is made of: digests, limits, diagnostics, and which interfaces are inert.
//!
//! This room is pure. It reads no file, no clock and no environment, and its types do not serialize:
//! wire formats are parsed at the edges of the system and turned into these types once.

mod diagnostic;
mod digest;
mod gateway;
mod goal;
mod grants;
mod initialized;
mod language;
mod limits;
mod quantity;
mod reuse;
mod rollout;
mod route;
mod similar;
pub mod store;
mod tenancy;
mod time;
mod wasi;

pub use diagnostic::{Diagnostic, Diagnostics, Location, Note, Position};
pub use digest::{Digest, InvalidDigest};
pub use gateway::{
    ELEMENT_SIZES, ErrorStatus, ExportedFunction, TYPED_ERROR_STATUS, http_paths, is_element_size,
    is_standard,
};
pub use goal::Goal;
pub use grants::{
    Access, BucketGrant, ContainerGrant, DirectoryGrant, Grants, HostPattern, HttpGrant, HttpScheme,
    MessagingGrant, SocketDirection, SocketGrant, SocketProtocol, StoreName,
};
pub use initialized::{Initialized, Number};
pub use language::Language;
pub use limits::{
    Authorities, Authority, HEADER_BYTES_MAX, INSTANCE_DATA_BYTES_MAX, Limits, MEMORIES_MAX, OutsideLimits,
    TABLES_MAX, WALL_MAX,
};
pub use quantity::{InvalidQuantity, format_bytes, format_duration, parse_bytes, parse_duration};
pub use reuse::Reuse;
pub use rollout::{
    Chosen, ChosenBy, InvalidChosen, InvalidSticky, RolloutPlan, STEPS_MAX, Seen, Step, Sticky, Tolerance,
    Verdict, Worse,
};
pub use route::{
    HOST_BYTES_MAX, InvalidRoute, PATH_BYTES_MAX, ROUTES_MAX, Route, RouteHost, RoutePath, Segment,
};
pub use similar::{most_similar, nearest};
pub use tenancy::{AppId, AppName, InvalidLabel, LABEL_BYTES_MAX, Quota, RevisionNumber, TenantId};
pub use time::{InvalidTime, format_time, parse_time};
pub use wasi::{Capability, InterfaceName, PartImport, Standing, standing};
