//! Whose requests are whose: the index of all routes, in which those that could overlap lie beside one another.

use tenon_model::{AppId, Route, RouteHost};

use super::change::ChangeError;
use super::open::ROUTES;
use super::records::{app_id, damaged};

/// How the host of a route is sorted: its labels from the right, so that what is below a name follows it.
fn sorted(host: &RouteHost) -> (String, u8) {
    let reversed = |name: &str| name.rsplit('.').collect::<Vec<_>>().join(".");
    match host {
        RouteHost::Exact(name) => (reversed(name), 0),
        RouteHost::Below(name) => (reversed(name), 1),
        RouteHost::Any => (String::new(), 2),
    }
}

/// Takes away all routes of an app.
pub(super) fn remove(
    transaction: &redb::WriteTransaction,
    id: &AppId,
    routes: &[Route],
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(ROUTES)?;
    for route in routes {
        let (host, kind) = sorted(&route.host);
        let path = route.path.to_string();
        table.remove((host.as_str(), kind, path.as_str(), id.tenant.as_str(), id.app.as_str()))?;
    }
    Ok(())
}

/// Gives an app routes, where nobody else has what they are for.
pub(super) fn insert(
    transaction: &redb::WriteTransaction,
    id: &AppId,
    routes: &[Route],
) -> Result<Result<(), ChangeError>, redb::Error> {
    let mut table = transaction.open_table(ROUTES)?;
    for route in routes {
        if let Some(taken) = taken(&table, id, route)? {
            return Ok(Err(taken));
        }
    }
    for route in routes {
        let (host, kind) = sorted(&route.host);
        let path = route.path.to_string();
        table.insert((host.as_str(), kind, path.as_str(), id.tenant.as_str(), id.app.as_str()), ())?;
    }
    Ok(Ok(()))
}

type Key = (&'static str, u8, &'static str, &'static str, &'static str);

/// Who has what `route` is for, if it is not this app, and not another way of the same tenant to say it less exactly.
fn taken(
    table: &impl redb::ReadableTable<Key, ()>,
    id: &AppId,
    route: &Route,
) -> Result<Option<ChangeError>, redb::Error> {
    let (host, kind) = sorted(&route.host);
    // What could be for the same hosts: the same name; the names above that mean all below them; and all below it.
    let mut ranges = vec![(host.clone(), format!("{host}\0"))];
    if kind != 2 {
        ranges.extend(
            host.match_indices('.').map(|(at, _)| (host[..at].to_owned(), format!("{}\0", &host[..at]))),
        );
    }
    if kind == 1 {
        ranges.push((format!("{host}."), format!("{host}/")));
    }
    for (from, to) in &ranges {
        for row in table.range((from.as_str(), 0, "", "", "")..(to.as_str(), 0, "", "", ""))? {
            let key = row?.0;
            let (reversed, kind, path, tenant, app) = key.value();
            let owner = app_id(tenant, app)?;
            let name = reversed.rsplit('.').collect::<Vec<_>>().join(".");
            let host = match kind {
                0 => RouteHost::Exact(name.into()),
                1 => RouteHost::Below(name.into()),
                _ => RouteHost::Any,
            };
            let other = Route { host, path: path.parse().map_err(damaged)? };
            let is_taken = match owner.tenant == id.tenant {
                true => owner.app != id.app && other.is_ambiguous_with(route),
                false => other.overlaps(route),
            };
            if is_taken {
                // Another tenant's names are nobody's business.
                let owner = (owner.tenant == id.tenant).then_some(owner);
                return Ok(Some(ChangeError::RouteTaken { route: route.clone(), by: owner }));
            }
        }
    }
    Ok(None)
}
