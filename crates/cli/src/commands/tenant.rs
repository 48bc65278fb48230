//! `tenon tenant`: tenants, and what each may use.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tenon_model::{format_bytes, format_duration};
use tenon_node::wire;

use crate::admin::Admin;
use crate::args::{TenantArgs, TenantCommand, TenantSetArgs};
use crate::error::CommandError;
use crate::settings::Settings;
use crate::table::Table;
use crate::terminal::Terminal;

/// How often a change is tried that others come before.
const CONFLICTS_MAX: u32 = 10;

pub(crate) fn run(args: &TenantArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    match &args.command {
        TenantCommand::List(args) => list(&Admin::open(&args.client, settings)?, terminal),
        TenantCommand::Set(args) => set(args, &Admin::open(&args.client, settings)?, terminal),
        TenantCommand::Delete(args) => {
            let tenant = &args.tenant;
            Admin::open(&args.client, settings)?.delete(&format!("/v1/tenants/{tenant}"))?;
            terminal.result(format_args!("{tenant} is gone"), || json!({ "deleted": tenant.as_str() }));
            terminal.step(
                "kept",
                "what its apps kept in the node's `store/`: a new tenant with the same name, and apps with the same names, \
                 would have it",
            );
            Ok(())
        }
    }
}

fn list(admin: &Admin, terminal: &Terminal) -> Result<(), CommandError> {
    let found: wire::Tenants = admin.get("/v1/tenants")?;
    let mut table = Table::new(&[
        "tenant",
        ">apps",
        ">running",
        ">requests/s",
        ">cpu/s",
        ">bytes/s",
        ">memory",
        ">at once",
        ">waiting",
        ">reserved",
        "allowed",
    ]);
    for one in &found.tenants {
        let quota = &one.quota;
        table.row([
            one.tenant.clone(),
            format!("{} of {}", one.apps, quota.apps),
            one.running.to_string(),
            quota.requests_per_second.to_string(),
            format_duration(Duration::from_micros(quota.cpu_us_per_second)),
            format_bytes(quota.bytes_per_second),
            format_bytes(quota.memory_bytes),
            quota.concurrency.to_string(),
            quota.queue.to_string(),
            match one.reserved_instances {
                // The pool has too few.
                Some(has) if has < quota.reserved_instances => {
                    format!("{has} of {}", quota.reserved_instances)
                }
                _ => quota.reserved_instances.to_string(),
            },
            one.allow.join(" "),
        ]);
    }
    match table.is_empty() {
        true => terminal.result("no tenants", || json!(found)),
        false => terminal.result(table, || json!(found)),
    }
    Ok(())
}

/// What is there, and over it the command line; anew where somebody else has changed it in between.
fn set(args: &TenantSetArgs, admin: &Admin, terminal: &Terminal) -> Result<(), CommandError> {
    let path = format!("/v1/tenants/{}", args.tenant);
    let mut tries = 1;
    let done: wire::Tenant = loop {
        let put = over(args, there(admin, &path)?);
        match admin.send(Method::PUT, &path, &put) {
            Err(error) if tries < CONFLICTS_MAX && error.is_any(&["tenant-conflict"]) => tries += 1,
            done => break done?,
        }
    };
    terminal.result(format_args!("{} is set", args.tenant), || json!(done));
    Ok(())
}

/// The tenant as it is; one that is not there is as a new one would be.
fn there(admin: &Admin, path: &str) -> Result<wire::PutTenant, CommandError> {
    match admin.get::<wire::Tenant>(path) {
        Ok(wire::Tenant { quota, allow, generation, .. }) => {
            Ok(wire::PutTenant { quota, allow, generation: Some(generation) })
        }
        Err(error) if error.is_any(&["no-such-tenant"]) => {
            Ok(wire::PutTenant { generation: Some(0), ..wire::PutTenant::default() })
        }
        Err(error) => Err(error),
    }
}

fn over(args: &TenantSetArgs, mut put: wire::PutTenant) -> wire::PutTenant {
    let quota = &mut put.quota;
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    quota.requests_per_second = args.requests.unwrap_or(quota.requests_per_second);
    quota.cpu_us_per_second = args.cpu.map_or(quota.cpu_us_per_second, micros);
    quota.bytes_per_second = args.bytes.unwrap_or(quota.bytes_per_second);
    quota.memory_bytes = args.memory.unwrap_or(quota.memory_bytes);
    quota.concurrency = args.concurrency.unwrap_or(quota.concurrency);
    quota.queue = args.queue.unwrap_or(quota.queue);
    quota.reserved_instances = args.reserved.unwrap_or(quota.reserved_instances);
    quota.apps = args.apps.unwrap_or(quota.apps);
    if args.allow_nothing || !args.allow.is_empty() {
        put.allow.clone_from(&args.allow);
    }
    put
}
