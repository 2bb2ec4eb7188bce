//! Injected failures: operations that fail, and crashes.

use smartnat_core::ops::{Domain, NetworkOp, OpError, OpErrorClass};

use super::SimKernel;
use super::log::describe;

/// What an operation does, without its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are those of the operations")]
pub enum OpKind {
    PutChain,
    DeleteChain,
    InsertJump,
    DeleteJump,
    DeleteEmptyBuiltin,
    CreateSet,
    AddElement,
    DeleteElement,
    DestroySet,
    AddRule,
    DeleteRule,
    PutRoute,
    DeleteRoute,
    SetSysctl,
    ForgetSysctl,
    Nft,
    DeleteFlow,
}

impl From<&NetworkOp> for OpKind {
    fn from(op: &NetworkOp) -> Self {
        match op {
            NetworkOp::PutChain { .. } => Self::PutChain,
            NetworkOp::DeleteChain { .. } => Self::DeleteChain,
            NetworkOp::InsertJump { .. } => Self::InsertJump,
            NetworkOp::DeleteJump { .. } => Self::DeleteJump,
            NetworkOp::DeleteEmptyBuiltin { .. } => Self::DeleteEmptyBuiltin,
            NetworkOp::CreateSet { .. } => Self::CreateSet,
            NetworkOp::AddElement { .. } => Self::AddElement,
            NetworkOp::DeleteElement { .. } => Self::DeleteElement,
            NetworkOp::DestroySet { .. } => Self::DestroySet,
            NetworkOp::AddRule(_) => Self::AddRule,
            NetworkOp::DeleteRule(_) => Self::DeleteRule,
            NetworkOp::PutRoute(_) => Self::PutRoute,
            NetworkOp::DeleteRoute(_) => Self::DeleteRoute,
            NetworkOp::SetSysctl { .. } => Self::SetSysctl,
            NetworkOp::ForgetSysctl { .. } => Self::ForgetSysctl,
            NetworkOp::Nft(_) => Self::Nft,
            NetworkOp::DeleteFlow(_) => Self::DeleteFlow,
        }
    }
}

/// Which operations a fault hits: those that agree with everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpMatcher {
    /// What the operation does.
    pub kind: Option<OpKind>,
    /// Where it goes.
    pub domain: Option<Domain>,
    /// Part of the name that the log gives the operation.
    pub name_contains: Option<String>,
}

impl OpMatcher {
    /// Every operation.
    pub fn any() -> Self {
        Self::default()
    }

    /// Operations that do this.
    pub fn kind(kind: OpKind) -> Self {
        Self { kind: Some(kind), ..Self::default() }
    }

    /// Operations of one domain.
    pub fn domain(domain: Domain) -> Self {
        Self { domain: Some(domain), ..Self::default() }
    }

    /// Operations on an object whose name contains `part`.
    pub fn named(part: impl Into<String>) -> Self {
        Self { name_contains: Some(part.into()), ..Self::default() }
    }

    fn matches(&self, domain: Domain, op: &NetworkOp) -> bool {
        self.kind.is_none_or(|kind| kind == OpKind::from(op))
            && self.domain.is_none_or(|wanted| wanted == domain)
            && self.name_contains.as_ref().is_none_or(|part| describe(domain, op).contains(part))
    }
}

/// A failure to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which operations it hits.
    pub matcher: OpMatcher,
    /// So many of them pass first.
    pub skip: u64,
    /// How many fail then; absent: all, until [`SimKernel::clear_faults`].
    pub times: Option<u64>,
    /// How they fail.
    pub class: OpErrorClass,
}

/// Failures to come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    ops: Vec<Fault>,
    reads: Vec<OpErrorClass>,
    crash_after: Option<u64>,
    crashed: bool,
}

impl Faults {
    /// Ahead of an operation.
    pub(super) fn check_op(&mut self, domain: Domain, op: &NetworkOp) -> Result<(), OpError> {
        let object = || describe(domain, op);
        self.check_crash(object)?;
        for fault in &mut self.ops {
            if !fault.matcher.matches(domain, op) || fault.times == Some(0) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times = fault.times.map(|times| times - 1);
            return Err(OpError::new(fault.class, object(), "injected failure"));
        }
        self.crash_after = self.crash_after.map(|left| left - 1);
        Ok(())
    }

    /// Ahead of an observation or a listing.
    pub(super) fn check_read(&mut self, what: &str) -> Result<(), OpError> {
        self.check_crash(|| what.to_owned())?;
        match self.reads.pop() {
            Some(class) => Err(OpError::new(class, what, "injected failure")),
            None => Ok(()),
        }
    }

    fn check_crash(&mut self, object: impl FnOnce() -> String) -> Result<(), OpError> {
        self.crashed |= self.crash_after == Some(0);
        if self.crashed {
            return Err(OpError::new(OpErrorClass::Transient, object(), "injected crash"));
        }
        Ok(())
    }
}

/// Injected failures.
impl SimKernel {
    /// The `n`-th operation from now (1 is the next one) fails once.
    pub fn fail_nth(&mut self, n: u64, class: OpErrorClass) {
        assert!(n > 0, "operations are counted from 1");
        self.inject(Fault { matcher: OpMatcher::any(), skip: n - 1, times: Some(1), class });
    }

    /// Every operation that `matcher` selects fails until [`Self::clear_faults`].
    pub fn fail_every(&mut self, matcher: OpMatcher, class: OpErrorClass) {
        self.inject(Fault { matcher, skip: 0, times: None, class });
    }

    /// A failure in full detail. Of several that hit an operation the oldest makes it fail.
    pub fn inject(&mut self, fault: Fault) {
        self.faults.ops.push(fault);
    }

    /// The next `times` observations and listings fail.
    pub fn fail_reads(&mut self, times: usize, class: OpErrorClass) {
        self.faults.reads.extend(std::iter::repeat_n(class, times));
    }

    /// The program dies after `n` more operations: from then on nothing is applied and every
    /// call fails, until [`Self::recover`]. An atomic transaction that does not fit is not applied.
    pub fn crash_after(&mut self, n: u64) {
        self.faults.crash_after = Some(n);
    }

    /// Whether the crash has happened.
    pub fn is_crashed(&self) -> bool {
        self.faults.crashed || self.faults.crash_after == Some(0)
    }

    /// Ends a crash, or calls one off.
    pub fn recover(&mut self) {
        self.faults.crashed = false;
        self.faults.crash_after = None;
    }

    /// Calls off all failures but a crash.
    pub fn clear_faults(&mut self) {
        self.faults.ops.clear();
        self.faults.reads.clear();
    }
}
