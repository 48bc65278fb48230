//! Rollouts on the wire.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tenon_model::{ChosenBy, RolloutPlan, STEPS_MAX};

/// How a candidate takes over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// The steps, with growing shares; after the last the candidate is the stable revision.
    pub steps: Vec<Step>,
    /// What keeps a client with one revision: its address where nothing is said.
    pub sticky: Sticky,
    /// Requests that are for the candidate from the start.
    pub chosen: Option<Chosen>,
    /// When it is sent back.
    pub tolerance: Tolerance,
    /// Of a hundred requests that the stable revision answers, those that are copied to the candidate.
    pub shadow_percent: u8,
}

/// This share of requests goes to the candidate for this long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Of a hundred requests, those that go to the candidate.
    pub percent: u8,
    /// How long, in milliseconds.
    pub hold_ms: u64,
}

/// What keeps a client with one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sticky {
    /// The client's address.
    #[default]
    Address,
    /// A header field of this name.
    Header(String),
    /// A cookie that the node sets.
    Cookie,
}

/// A request that is for the candidate whatever the share is: exactly one of `header` and `cookie` names where it says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// The name of a header field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The name of a cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// What it has to say.
    pub value: String,
}

/// What the candidate may do worse than the stable revision. What is left out has its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tolerance {
    /// Failed requests in a thousand, beyond those of the stable revision.
    pub errors_per_mille: u32,
    /// Its p99, in percent of the stable revision's; 0: not looked at.
    pub p99_percent: u32,
    /// Requests that it must have answered before it is judged. A step in which it has fewer is over when its time is, unless
    /// most of them failed.
    pub samples: u64,
    /// This many failures of the guest within one look end the rollout at once; 0: not looked at.
    pub crashes: u64,
}

impl Default for Tolerance {
    fn default() -> Self {
        let tenon_model::Tolerance { errors_per_mille, p99_percent, samples, crashes } = Default::default();
        Self { errors_per_mille, p99_percent, samples, crashes }
    }
}

/// How a rollout stands.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RolloutStatus {
    /// The revision that takes over: `r8`.
    pub candidate: String,
    /// The one it takes over from.
    pub stable: String,
    /// How.
    pub plan: Rollout,
    /// How it stands.
    pub state: RolloutState,
    /// Which step, from 0 on.
    pub step: u32,
    /// Of a hundred requests, those that go to the candidate now.
    pub percent: u8,
    /// Until the next step, in milliseconds, while it runs and the app is not paused.
    pub left_ms: Option<u64>,
    /// Why it was sent back; while it runs, why the candidate gets nothing, where that cannot be written yet.
    pub why: Option<String>,
    /// When it ended; `None` while it has not.
    #[serde(default)]
    pub ended: Option<u64>,
    /// What the stable revision did since the step began, until the rollout ended.
    pub seen_stable: Seen,
    /// What the candidate did since then.
    pub seen_candidate: Seen,
    /// Copies of requests whose answers were compared, since the candidate came into being, until the rollout
    /// ended; `None` of one that ended under a version that did not keep it.
    #[serde(default)]
    pub shadow: Option<Shadowed>,
}

/// How the candidate's answers to copied requests compare with the stable revision's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shadowed {
    /// Answers with the same status and body.
    pub same: u64,
    /// Others.
    pub different: u64,
}

impl From<tenon_state::desired::Copies> for Shadowed {
    fn from(copies: tenon_state::desired::Copies) -> Self {
        let tenon_state::desired::Copies { same, different } = copies;
        Self { same, different }
    }
}

/// How a rollout ended: kept as long as its candidate is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RolloutEnd {
    /// `promoted` or `reverted`.
    pub state: RolloutState,
    /// The revision that it took over from, or was to: `r7`.
    pub stable: String,
    /// At which step it ended, from 0 on.
    pub step: u32,
    /// Why it was sent back.
    pub why: Option<String>,
    /// When it ended.
    pub ended: u64,
    /// What the stable revision did since that step began.
    pub seen_stable: Seen,
    /// What the candidate did since that step began.
    pub seen_candidate: Seen,
    /// Copies of requests whose answers were compared, since the candidate came into being.
    #[serde(default)]
    pub shadow: Option<Shadowed>,
}

/// How a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutState {
    /// It goes on by itself.
    Running,
    /// It stays at its step until somebody resumes it, promotes the candidate or reverts.
    Paused,
    /// The candidate has become the stable revision.
    Promoted,
    /// The candidate was sent back.
    Reverted,
}

/// What a revision did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// Requests answered.
    pub requests: u64,
    /// Those answered with a status of 500 or more.
    pub errors: u64,
    /// Those that failed in the guest.
    pub crashes: u64,
    /// 99 of 100 were faster, in microseconds.
    pub p99_us: u64,
}

impl From<tenon_model::Seen> for Seen {
    fn from(seen: tenon_model::Seen) -> Self {
        let tenon_model::Seen { requests, errors, crashes, p99_us } = seen;
        Self { requests, errors, crashes, p99_us }
    }
}

impl Rollout {
    /// As the domain has it.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence.
    pub fn read(&self) -> Result<RolloutPlan, String> {
        if self.steps.len() > STEPS_MAX {
            return Err(format!("a rollout has at most {STEPS_MAX} steps"));
        }
        if self.steps.iter().any(|step| !(1..=100).contains(&step.percent)) {
            return Err("a step's share is 1 to 100 percent".into());
        }
        if !self.steps.windows(2).all(|pair| pair[0].percent < pair[1].percent) {
            return Err("the shares of the steps have to grow".into());
        }
        if self.steps.iter().any(|step| step.hold_ms > HOLD_MS_MAX) {
            return Err("a step is held for at most 30 days".into());
        }
        if self.shadow_percent > 100 {
            return Err("at most 100 percent of the requests can be copied".into());
        }
        let header = |name: &str| match http::HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => Ok(name.as_str().to_owned()),
            Err(_) => Err(format!("`{name}` is not the name of a header field")),
        };
        let sticky = match &self.sticky {
            Sticky::Address => tenon_model::Sticky::Address,
            Sticky::Header(name) => tenon_model::Sticky::Header(header(name)?),
            Sticky::Cookie => tenon_model::Sticky::Cookie,
        };
        let chosen = match &self.chosen {
            None => None,
            Some(Chosen { value, .. }) if value.is_empty() || value.len() > VALUE_BYTES_MAX => {
                return Err(format!("what chooses the candidate has 1 to {VALUE_BYTES_MAX} bytes"));
            }
            Some(Chosen { header: Some(name), cookie: None, value }) => {
                Some(tenon_model::Chosen { by: ChosenBy::Header(header(name)?), value: value.clone() })
            }
            // The names of cookies are tokens, like those of header fields, and keep their case (RFC 6265, section 4.1.1).
            Some(Chosen { header: None, cookie: Some(name), value }) => match header(name) {
                Ok(_) => {
                    Some(tenon_model::Chosen { by: ChosenBy::Cookie(name.clone()), value: value.clone() })
                }
                Err(_) => return Err(format!("`{name}` is not the name of a cookie")),
            },
            Some(_) => return Err("exactly one of `header` and `cookie` chooses the candidate".into()),
        };
        let Tolerance { errors_per_mille, p99_percent, samples, crashes } = self.tolerance;
        Ok(RolloutPlan {
            steps: self
                .steps
                .iter()
                .map(|step| tenon_model::Step {
                    percent: step.percent,
                    hold: Duration::from_millis(step.hold_ms),
                })
                .collect(),
            sticky,
            chosen,
            tolerance: tenon_model::Tolerance { errors_per_mille, p99_percent, samples, crashes },
            shadow_percent: self.shadow_percent,
        })
    }
}

/// The longest that one step is held: 30 days.
const HOLD_MS_MAX: u64 = 30 * 24 * 3_600 * 1_000;
/// The longest value that chooses the candidate, in bytes.
const VALUE_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_that_means_nothing_is_refused() {
        let step = |percent| Step { percent, hold_ms: 1 };
        let with =
            |steps: &[u8]| Rollout { steps: steps.iter().copied().map(step).collect(), ..Rollout::default() };
        assert!(with(&[5, 25, 100]).read().is_ok());
        for steps in [&[0][..], &[101], &[5, 5], &[25, 5]] {
            assert!(with(steps).read().is_err(), "{steps:?}");
        }
        assert!(Rollout { shadow_percent: 101, ..Rollout::default() }.read().is_err());
        assert!(Rollout { sticky: Sticky::Header("a b".into()), ..Rollout::default() }.read().is_err());
        let both = Chosen { header: Some("a".into()), cookie: Some("b".into()), value: "c".into() };
        assert!(Rollout { chosen: Some(both), ..Rollout::default() }.read().is_err());
    }
}
