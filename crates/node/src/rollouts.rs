//! Rollouts: from step to step while the candidate is no worse than the stable revision, and back when it is.
//!
//! Time is measured by a clock that cannot be set. A node that was started anew begins the step that it finds anew.
//! A step begins from what was counted at the look that ended the one before: what comes between two looks is judged too.
//!
//! While a rollout or its app is paused, its step begins anew all the time: no candidate takes over while nobody asks it. A
//! candidate that goes back goes at once, whether or not that can be written.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tenon_edge::{CounterSnapshot, Slot};
use tenon_model::{AppId, RevisionNumber, RolloutPlan, Seen, Verdict};
use tenon_state::desired::{AppRecord, ChangeError, Copies, Ended, Phase, RolloutRecord};

use crate::journey::end_rollout;
use crate::node::{Inner, NODE, read_plan, said};

/// How often all rollouts are looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(200);
/// Crashes are a burst when they come within this time.
const BURST: Duration = Duration::from_secs(2);
/// What could not be written is tried again this long after.
const RETRY: Duration = Duration::from_secs(2);
/// How often it is said of a rollout that it cannot be written.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Why a candidate goes back whose breaker opened: while it is open, too few requests reach it for anything else to be seen.
const BROKEN: &str = "it crashed so often in a row that its breaker opened";

/// The steps that are being held.
#[derive(Debug, Default)]
pub(crate) struct Rollouts {
    held: HashMap<AppId, Held>,
}

impl Rollouts {
    /// The step that a rollout is at: the one that is held, or one that begins.
    fn step(&mut self, id: &AppId, rollout: &RolloutRecord, counts: &Counts, now: Instant) -> &mut Held {
        match self.held.entry(id.clone()) {
            Entry::Vacant(place) => place.insert(Held::begin(rollout, None, counts, now)),
            Entry::Occupied(place) => {
                let held = place.into_mut();
                if !held.is_of(rollout) {
                    *held = Held::begin(rollout, Some(held), counts, now);
                }
                held
            }
        }
    }
}

/// A step: since when, and what both revisions had counted then.
#[derive(Debug)]
struct Held {
    candidate: RevisionNumber,
    step: u32,
    /// When it began, or began anew because it was paused.
    since: Instant,
    began: Instant,
    before: Counts,
    /// What both had counted when they were last looked at.
    looked: Counts,
    /// Crashes of both at the looks of the last moments.
    looks: VecDeque<(Instant, u64, u64)>,
    /// Why the candidate gets nothing more, though the state still says that it does.
    withheld: Option<String>,
    /// When it could not be written how the rollout goes on.
    unwritten: Option<Unwritten>,
}

/// A move that could not be written.
#[derive(Clone, Copy, Debug)]
struct Unwritten {
    tried: Instant,
    said: Instant,
}

/// What both revisions had done at one moment.
#[derive(Clone, Debug, Default)]
struct Counts {
    stable: Done,
    candidate: Done,
}

/// What a revision had done at one moment, or since another one.
#[derive(Clone, Debug, Default)]
struct Done {
    counts: CounterSnapshot,
    /// How often its breaker had opened.
    opened: u64,
    /// Whether it was open at that moment.
    is_open: bool,
}

impl Done {
    fn of(slot: &Slot) -> Self {
        Self { counts: slot.counters().snapshot(), opened: slot.opened(), is_open: slot.is_open() }
    }

    fn since(&self, earlier: &Self) -> Self {
        let opened = self.opened.saturating_sub(earlier.opened);
        Self { counts: self.counts.since(&earlier.counts), opened, is_open: self.is_open }
    }

    /// Whether its breaker was open at some time since.
    fn is_broken(&self) -> bool {
        self.is_open || self.opened > 0
    }
}

/// What is to be done with a rollout.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    Hold,
    Next,
    Promote,
    Back(String),
}

impl Held {
    /// What to do, by what was seen until the last look.
    fn judge(&mut self, plan: &RolloutPlan, now: Instant) -> Move {
        let both = (
            self.looked.stable.since(&self.before.stable),
            self.looked.candidate.since(&self.before.candidate),
        );
        let (stable, candidate) = (both.0.counts.seen(), both.1.counts.seen());
        self.looks.push_back((now, stable.crashes, candidate.crashes));
        while self.looks.len() > 1
            && self.looks.front().is_some_and(|look| now.duration_since(look.0) > BURST)
        {
            self.looks.pop_front();
        }
        let (stable_before, candidate_before) = self
            .looks
            .front()
            .filter(|_| now.duration_since(self.began) > BURST)
            .map_or((0, 0), |look| (look.1, look.2));
        let lately = |seen: Seen, before: u64| Seen { crashes: seen.crashes.saturating_sub(before), ..seen };
        let slower = |us| (both.0.counts.slower_than(us), both.1.counts.slower_than(us));
        let verdict = plan.tolerance.judge(
            &lately(stable, stable_before),
            &lately(candidate, candidate_before),
            slower,
        );
        if let Verdict::Revert(worse) = verdict {
            return Move::Back(worse.to_string());
        }
        if both.1.is_broken() && !both.0.is_broken() {
            return Move::Back(BROKEN.to_owned());
        }
        let at = usize::try_from(self.step).unwrap_or(usize::MAX);
        match plan.steps.get(at) {
            // Only somebody can say what becomes of it.
            None => return Move::Hold,
            Some(step) if now.duration_since(self.since) < step.hold => return Move::Hold,
            // The stable revision fails as well; but nothing says that this one does not.
            Some(_) if both.1.is_open => return Move::Hold,
            Some(_) => {}
        }
        match plan.tolerance.judge_few(&stable, &candidate) {
            Verdict::Revert(worse) => Move::Back(worse.to_string()),
            Verdict::Go if at + 1 < plan.steps.len() => Move::Next,
            Verdict::Go => Move::Promote,
        }
    }

    /// Whether a move may be written now: not soon after one could not.
    fn may_write(&self, now: Instant) -> bool {
        self.unwritten.is_none_or(|unwritten| now.duration_since(unwritten.tried) >= RETRY)
    }

    /// Notes that a move could not be written, and says whether it is time to say so.
    fn not_written(&mut self, now: Instant) -> bool {
        let before = self.unwritten.filter(|before| now.duration_since(before.said) < SAY_AGAIN);
        self.unwritten = Some(Unwritten { tried: now, said: before.map_or(now, |before| before.said) });
        before.is_none()
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, Rollouts> {
        self.rollouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at all rollouts that run, and moves those that are to move.
    pub(crate) fn look_at_rollouts(&self) {
        if self.draining.load(Relaxed) {
            return;
        }
        let (_, apps) = self.desired.apps();
        let open: Vec<_> = apps.iter().filter(|app| app.open_rollout().is_some()).collect();
        self.held().held.retain(|id, _| open.iter().any(|app| app.id == *id));
        for app in open {
            match self.look_at(app) {
                Ok(Move::Hold) => {}
                Ok(to) => self.go(app, to),
                Err(cause) => tracing::error!(app = %app.id, cause, "a rollout cannot be looked at"),
            }
        }
    }

    fn look_at(&self, app: &AppRecord) -> Result<Move, String> {
        let Some(rollout) = app.open_rollout() else { return Ok(Move::Hold) };
        let now = Instant::now();
        // What was decided stays so; the candidate may not even be there any more.
        if let Some(held) = self.held().held.get(&app.id).filter(|held| held.is_of(rollout))
            && let Some(why) = &held.withheld
        {
            return Ok(if held.may_write(now) { Move::Back(why.clone()) } else { Move::Hold });
        }
        let plan = read_plan(&rollout.plan).map_err(|refused| refused.0.title)?;
        let Some(counts) = self.counted(rollout, &app.id) else { return Ok(Move::Hold) };
        let mut rollouts = self.held();
        let held = rollouts.step(&app.id, rollout, &counts, now);
        // Of an app that is out of service nothing is seen.
        let is_paused = rollout.phase == Phase::Paused || app.paused;
        if is_paused {
            // The step begins anew when it is resumed; a candidate that fails is sent back all the same.
            held.since = now;
        }
        held.look(counts);
        Ok(match held.judge(&plan, now) {
            Move::Next | Move::Promote if is_paused || !held.may_write(now) => Move::Hold,
            to => to,
        })
    }

    /// Begins the step that an app's rollout is at, from what is counted now.
    pub(crate) fn begin_step(&self, app: &AppRecord) {
        if let Some(rollout) = app.open_rollout()
            && let Some(counts) = self.counted(rollout, &app.id)
        {
            self.held().step(&app.id, rollout, &counts, Instant::now());
        }
    }

    /// What the stable revision and the candidate have counted.
    fn counted(&self, rollout: &RolloutRecord, id: &AppId) -> Option<Counts> {
        let live = self.live();
        let done = |number| live.revision(id, number).map(|it| Done::of(&it.slot));
        Some(Counts { stable: done(rollout.from)?, candidate: done(rollout.candidate)? })
    }

    fn go(&self, app: &AppRecord, to: Move) {
        let Some(rollout) = app.open_rollout() else { return };
        let (candidate, ended) = (rollout.candidate, self.ended(app));
        let few = || {
            let samples = read_plan(&rollout.plan).map_or(0, |plan| plan.tolerance.samples);
            match ended.candidate.requests {
                requests if requests < samples => format!(", after {requests} requests: too few to judge it"),
                _ => String::new(),
            }
        };
        let (what, detail) = match &to {
            Move::Hold => return,
            Move::Next => ("step", format!("{candidate} step {}{}", rollout.step + 1, few())),
            Move::Promote => ("promote", format!("{candidate} has taken all steps{}", few())),
            Move::Back(why) => ("revert", format!("{candidate} goes: {why}")),
        };
        let done =
            self.desired.point(
                self.by(NODE),
                &app.id,
                Some(app.generation),
                what,
                &detail,
                |app| match &to {
                    Move::Next => match app.rollout.as_mut() {
                        Some(rollout) => {
                            rollout.step += 1;
                            Ok(())
                        }
                        None => Err(ChangeError::Refused("no rollout runs")),
                    },
                    Move::Promote => end_rollout(app, Phase::Promoted, None, ended),
                    Move::Back(why) => end_rollout(app, Phase::Reverted, Some(why.clone()), ended),
                    Move::Hold => Ok(()),
                },
            );
        match self.noted(done) {
            Ok(_) => {
                tracing::info!(app = %app.id, what, detail, "a rollout moves");
                self.reconcile();
            }
            Err(refused) if refused.0.code == "state-failed" => {
                self.not_written(app, rollout, &to, &said(&refused));
            }
            // Somebody else was faster: it is looked at anew.
            Err(refused) => {
                tracing::warn!(app = %app.id, what, code = refused.0.code, "a rollout does not move");
            }
        }
    }

    /// A move could not be written. It is tried again; but whoever is to go back gets nothing more from now on.
    fn not_written(&self, app: &AppRecord, rollout: &RolloutRecord, to: &Move, cause: &str) {
        let mut rollouts = self.held();
        let Some(held) = rollouts.held.get_mut(&app.id).filter(|held| held.is_of(rollout)) else { return };
        let is_said = held.not_written(Instant::now());
        let withheld = match to {
            Move::Back(why) if held.withheld.is_none() => {
                held.withheld = Some(why.clone());
                Some(why)
            }
            _ => None,
        };
        drop(rollouts);
        if is_said {
            tracing::warn!(app = %app.id, cause, "how a rollout goes on cannot be written; it is tried again");
        }
        if let Some(why) = withheld {
            tracing::warn!(app = %app.id, candidate = %rollout.candidate, why, "the candidate gets no more requests");
            self.reconcile();
        }
    }

    /// Why the candidate of an app's rollout gets nothing, if it is to go back and that could not be written yet.
    pub(crate) fn withheld(&self, id: &AppId, candidate: RevisionNumber) -> Option<String> {
        let rollouts = self.held();
        rollouts.held.get(id).filter(|held| held.candidate == candidate)?.withheld.clone()
    }

    /// How a rollout that ends now stood: what both revisions did since its last step began.
    pub(crate) fn ended(&self, app: &AppRecord) -> Ended {
        let (_, stable, candidate) = self.progress(app, None);
        let copies = app.open_rollout().and_then(|rollout| self.copies(&app.id, rollout.candidate));
        Ended { at: self.now(), stable, candidate, copies }
    }

    /// How the candidate's answers to copies have compared, since it came into being.
    pub(crate) fn copies(&self, id: &AppId, candidate: RevisionNumber) -> Option<Copies> {
        let seen = self.live().revision(id, candidate)?.slot.counters().snapshot();
        Some(Copies { same: seen.shadow_same, different: seen.shadow_different })
    }

    /// How long the step is still held, and what both revisions did since it began; of a rollout that has ended, what
    /// they had done by then.
    pub(crate) fn progress(
        &self,
        app: &AppRecord,
        plan: Option<&RolloutPlan>,
    ) -> (Option<Duration>, Seen, Seen) {
        let nothing = (None, Seen::default(), Seen::default());
        let Some(rollout) = &app.rollout else { return nothing };
        if let Some(ended) = &rollout.ended {
            return (None, ended.stable, ended.candidate);
        }
        let counted = self.counted(rollout, &app.id);
        let rollouts = self.held();
        let held = rollouts.held.get(&app.id).filter(|held| held.candidate == rollout.candidate);
        let (Some(counts), Some(held)) = (counted, held) else { return nothing };
        let at = usize::try_from(held.step).unwrap_or(usize::MAX);
        let hold = plan.and_then(|plan| plan.steps.get(at)).map(|step| step.hold);
        let left = hold.map(|hold| hold.saturating_sub(held.since.elapsed()));
        let (stable, candidate) = held.since(&counts);
        (left, stable, candidate)
    }
}

impl Held {
    /// The step that a rollout is at now. `last` is what was held before: of the same rollout, it was looked at until the
    /// step ended, and this one begins with what came after.
    fn begin(rollout: &RolloutRecord, last: Option<&Self>, counts: &Counts, now: Instant) -> Self {
        let before = match last.filter(|held| held.candidate == rollout.candidate) {
            Some(held) => held.looked.clone(),
            // A candidate counts from nothing, and may have crashed often before it is first looked at; both do in a
            // process that was started anew.
            None => Counts { stable: counts.stable.clone(), candidate: Done::default() },
        };
        Self {
            candidate: rollout.candidate,
            step: rollout.step,
            since: now,
            began: now,
            looked: before.clone(),
            before,
            looks: VecDeque::new(),
            withheld: None,
            unwritten: None,
        }
    }

    /// Whether it is the step that the rollout is at.
    fn is_of(&self, rollout: &RolloutRecord) -> bool {
        (self.candidate, self.step) == (rollout.candidate, rollout.step)
    }

    /// Notes what was counted until now.
    fn look(&mut self, counts: Counts) {
        // A revision that was brought into being anew counts from nothing.
        let is_anew = |now: &Done, before: &Done| now.counts.requests() < before.counts.requests();
        if is_anew(&counts.candidate, &self.looked.candidate) {
            self.before.candidate = Done::default();
        }
        if is_anew(&counts.stable, &self.looked.stable) {
            self.before.stable = Done::default();
        }
        self.looked = counts;
    }

    /// What both did since the step began.
    fn since(&self, counts: &Counts) -> (Seen, Seen) {
        let Counts { stable, candidate } = &self.before;
        (counts.stable.since(stable).counts.seen(), counts.candidate.since(candidate).counts.seen())
    }
}

#[cfg(test)]
mod tests {
    use tenon_edge::Outcome;
    use tenon_model::Step;
    use tenon_testkit::Random;

    use super::*;

    fn plan(percents: &[u8]) -> RolloutPlan {
        let step = |percent: &u8| Step { percent: *percent, hold: Duration::from_secs(10) };
        RolloutPlan { steps: percents.iter().map(step).collect(), ..RolloutPlan::at_once() }
    }

    fn held(step: u32, since: Instant) -> Held {
        Held::begin(&rollout(step), None, &Counts::default(), since)
    }

    fn rollout(step: u32) -> RolloutRecord {
        RolloutRecord {
            candidate: RevisionNumber(2),
            from: RevisionNumber(1),
            plan: String::new(),
            phase: Phase::Running,
            step,
            why: None,
            ended: None,
        }
    }

    /// A revision that was asked so often, and crashed that often.
    fn done(requests: u64, crashes: u64) -> Done {
        let mut done = Done::default();
        done.counts.outcomes[Outcome::Trapped as usize] = crashes;
        done.counts.outcomes[Outcome::Answered as usize] = requests - crashes;
        done.counts.latency[0] = requests;
        done
    }

    /// A candidate that has crashed so often, beside a stable revision that was not asked.
    fn crashed(count: u64) -> Counts {
        Counts { candidate: done(count, count), ..Counts::default() }
    }

    /// What is made of it when both have done so much.
    fn judged(mut held: Held, stable: Done, candidate: Done, percents: &[u8], now: Instant) -> Move {
        held.look(Counts { stable, candidate });
        held.judge(&plan(percents), now)
    }

    #[test]
    fn a_step_is_held_and_then_the_next_comes_and_after_the_last_it_is_stable() {
        let began = Instant::now();
        let after = |step, seconds| {
            let (well, now) = (done(1_000, 0), began + Duration::from_secs(seconds));
            judged(held(step, began), well.clone(), well, &[5, 50], now)
        };
        assert_eq!(
            [after(0, 9), after(0, 10), after(1, 9), after(1, 10)],
            [Move::Hold, Move::Next, Move::Hold, Move::Promote]
        );
        // Without steps only somebody can say so.
        let well = done(1_000, 0);
        let chosen = judged(held(0, began), well.clone(), well, &[], began + Duration::from_secs(1_000));
        assert_eq!(chosen, Move::Hold);
    }

    #[test]
    fn a_step_in_which_the_candidate_was_hardly_asked_ends_with_its_time_unless_most_failed() {
        let began = Instant::now();
        let after = |candidate| {
            judged(held(0, began), done(50, 1), candidate, &[5, 50], began + Duration::from_secs(10))
        };
        assert_eq!([after(done(0, 0)), after(done(2, 2)), after(done(20, 9))], [const { Move::Next }; 3]);
        assert_eq!(after(done(4, 3)), Move::Back("3 of its 4 requests failed".into()));
    }

    #[test]
    fn crashes_are_a_burst_only_together() {
        let began = Instant::now();
        let mut held = held(0, began);
        let mut look = |millis, crashes| {
            held.look(Counts { stable: done(100_000, 0), candidate: done(100_000, crashes) });
            held.judge(&plan(&[5]), began + Duration::from_millis(millis))
        };
        // One crash a second, for as long as the step is held, is not one.
        for second in 0..9 {
            assert_eq!(look(second * 1_000, second), Move::Hold);
        }
        assert_eq!(look(9_200, 9), Move::Hold);
        assert!(matches!(look(9_400, 19), Move::Back(why) if why.contains("crashed")));
    }

    #[test]
    fn crashes_from_the_start_count_at_once() {
        let began = Instant::now();
        let moved = judged(held(0, began), done(100, 0), done(12, 10), &[5], began + LOOK);
        assert!(matches!(moved, Move::Back(_)), "{moved:?}");
    }

    #[test]
    fn a_candidate_whose_breaker_opens_goes_however_few_requests_it_gets() {
        let began = Instant::now();
        let mut held = held(0, began);
        // Two requests a second, of which every one crashes: never a burst, and after twenty the breaker refuses most.
        for crashes in 1..=20 {
            let candidate = Done { opened: u64::from(crashes == 20), ..done(crashes, crashes) };
            held.look(Counts { stable: done(19 * crashes, 0), candidate });
            let moved = held.judge(&plan(&[5, 50]), began + Duration::from_millis(400 * crashes));
            match crashes {
                20 => assert_eq!(moved, Move::Back(BROKEN.into()), "and though it has closed again"),
                _ => assert_eq!(moved, Move::Hold, "after {crashes}"),
            }
        }
    }

    #[test]
    fn a_candidate_that_is_broken_like_the_stable_revision_stays_where_it_is() {
        let began = Instant::now();
        let broken = |is_open, opened| Done { is_open, opened, ..done(20, 20) };
        let after = |stable, candidate, seconds| {
            let now = began + Duration::from_secs(seconds);
            judged(held(0, began), stable, candidate, &[5, 50], now)
        };
        // What both reach may be down: neither is better.
        assert_eq!(after(broken(true, 0), broken(true, 1), 60), Move::Hold);
        assert_eq!(after(broken(false, 1), broken(true, 1), 60), Move::Hold);
        assert_eq!(after(broken(true, 1), broken(false, 1), 60), Move::Next, "it works again");
        // One that mends what is broken goes on.
        assert_eq!(after(broken(true, 1), done(20, 0), 9), Move::Hold);
        assert_eq!(after(broken(true, 1), done(20, 0), 10), Move::Next);
    }

    #[test]
    fn what_was_before_the_step_is_not_held_against_the_candidate() {
        let began = Instant::now();
        let opened = |opened| Done { opened, ..Done::default() };
        let counts = |of| Counts { stable: opened(0), candidate: opened(of) };
        let mut first = held(0, began);
        first.look(counts(1));
        let mut second = Held::begin(&rollout(1), Some(&first), &counts(1), began);
        second.look(counts(1));
        assert_eq!(second.judge(&plan(&[5, 50]), began + LOOK), Move::Hold);
        second.look(counts(2));
        assert_eq!(second.judge(&plan(&[5, 50]), began + LOOK), Move::Back(BROKEN.into()));
    }

    #[test]
    fn what_comes_between_two_looks_counts_in_the_step_that_begins() {
        let began = Instant::now();
        let mut first = Held::begin(&rollout(0), None, &crashed(2), began);
        assert_eq!(first.since(&crashed(2)).1.crashes, 2, "a candidate counts from its first request");
        first.look(crashed(3));
        assert!(!first.is_of(&rollout(1)));
        // The step has changed, and until the next look the candidate crashed twelve times.
        let mut second = Held::begin(&rollout(1), Some(&first), &crashed(15), began + LOOK);
        second.look(crashed(15));
        let (stable, candidate) = second.since(&crashed(15));
        assert_eq!((stable.crashes, candidate.crashes), (0, 12));
        let moved = second.judge(&plan(&[5, 50]), began + LOOK);
        assert!(matches!(moved, Move::Back(_)), "{moved:?}");
        // Another rollout's candidate has nothing to do with it.
        let other = RolloutRecord { candidate: RevisionNumber(3), ..rollout(0) };
        assert_eq!(Held::begin(&other, Some(&second), &crashed(1), began).since(&crashed(1)).1.crashes, 1);
    }

    #[test]
    fn a_revision_that_counts_anew_is_judged_by_what_it_counts_then() {
        let mut held = Held::begin(&rollout(0), None, &crashed(0), Instant::now());
        held.look(crashed(50));
        held.look(crashed(4));
        held.look(crashed(7));
        assert_eq!(held.since(&crashed(7)).1.crashes, 7);
    }

    #[test]
    fn what_cannot_be_written_is_tried_again_in_a_while_and_seldom_said() {
        let began = Instant::now();
        let mut held = held(0, began);
        assert!(held.may_write(began));
        assert!(held.not_written(began));
        assert!(!held.may_write(began + LOOK));
        assert!(held.may_write(began + RETRY));
        assert!(!held.not_written(began + RETRY), "it was said");
        assert!(!held.may_write(began + RETRY + LOOK));
        assert!(held.not_written(began + SAY_AGAIN));
        assert!(!held.not_written(began + SAY_AGAIN + RETRY));
    }

    /// How a revision answers: of 10,000 requests, those that fail, and those that are in a bucket of latencies or in one
    /// before it.
    struct Answers {
        errors: u64,
        latencies: &'static [(usize, u64)],
    }

    impl Answers {
        fn give(&self, to: &mut Done, random: &mut Random) {
            let failed = random.below(10_000) < self.errors;
            let outcome = if failed { Outcome::Errored } else { Outcome::Answered };
            to.counts.outcomes[outcome as usize] += 1;
            let drawn = random.below(10_000);
            let bucket = self.latencies.iter().find(|(_, until)| drawn < *until).unwrap();
            to.counts.latency[bucket.0] += 1;
        }
    }

    /// Carries a rollout out over four steps with the usual tolerance, a hundred requests a second; why the candidate was sent
    /// back, if it was.
    fn carried_out(stable: &Answers, candidate: &Answers, random: &mut Random) -> Option<String> {
        const REQUESTS_A_LOOK: u64 = 20;
        let plan = plan(&[5, 25, 50, 90]);
        let mut now = Instant::now();
        let (mut held, mut counts) = (held(0, now), Counts::default());
        loop {
            now += LOOK;
            let percent = u64::from(plan.steps[held.step as usize].percent);
            for _ in 0..REQUESTS_A_LOOK {
                match random.below(100) < percent {
                    true => candidate.give(&mut counts.candidate, random),
                    false => stable.give(&mut counts.stable, random),
                }
            }
            held.look(counts.clone());
            match held.judge(&plan, now) {
                Move::Hold => {}
                Move::Next => held = Held::begin(&rollout(held.step + 1), Some(&held), &counts, now),
                Move::Promote => return None,
                Move::Back(why) => return Some(why),
            }
        }
    }

    /// Forty buckets are a millisecond, each four more are twice as long.
    const EVEN: &[(usize, u64)] = &[(40, 10_000)];
    const ONE_SLOW: &[(usize, u64)] = &[(40, 9_900), (56, 10_000)];
    const TWO_SLOW: &[(usize, u64)] = &[(40, 9_800), (56, 10_000)];
    const FIVE_SLOW: &[(usize, u64)] = &[(40, 9_500), (56, 10_000)];
    const LONG_TAIL: &[(usize, u64)] = &[
        (40, 5_000),
        (44, 7_500),
        (48, 8_750),
        (52, 9_375),
        (56, 9_687),
        (60, 9_843),
        (64, 9_921),
        (68, 9_960),
        (72, 10_000),
    ];

    #[test]
    fn a_candidate_that_is_as_good_as_the_stable_revision_is_not_sent_back_by_chance() {
        const ROLLOUTS: u64 = 150;
        for (of, latencies) in [ONE_SLOW, TWO_SLOW, FIVE_SLOW, LONG_TAIL].into_iter().enumerate() {
            for errors in [0, 200, 1_000] {
                let both = Answers { errors, latencies };
                let mut random = Random(of as u64 * 1_000 + errors);
                // Without regard to chance, half of those in the first of these would be sent back.
                for _ in 0..ROLLOUTS {
                    let sent_back = carried_out(&both, &both, &mut random);
                    assert_eq!(sent_back, None, "{errors} errors, {latencies:?}");
                }
            }
        }
    }

    #[test]
    fn a_candidate_that_is_worse_is_sent_back_though_it_might_be_chance() {
        let mut random = Random(7);
        let of = |errors, latencies| Answers { errors, latencies };
        for (stable, candidate, why) in [
            (of(0, EVEN), of(0, FIVE_SLOW), "p99 was"),
            (of(0, EVEN), of(0, LONG_TAIL), "p99 was"),
            (of(0, EVEN), of(1_000, EVEN), "requests failed"),
            (of(200, LONG_TAIL), of(2_000, LONG_TAIL), "requests failed"),
        ] {
            let sent_back = carried_out(&stable, &candidate, &mut random);
            assert!(sent_back.as_ref().is_some_and(|said| said.contains(why)), "{why}: {sent_back:?}");
        }
    }
}
