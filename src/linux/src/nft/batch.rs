//! The messages of one transaction, and which operation each carries.

use std::collections::BTreeMap;

use smartnat_core::objects::nft::{NftChain, NftData, NftExpr, NftName, NftSetSpec};
use smartnat_core::ops::{NftOp, OpError, OpErrorClass};

use super::encode::{self, Change};
use super::error::op_error;
use super::types::MAX_FIELDS;
use crate::netlink::{BatchError, Message, NetlinkError};

/// What the sets of our table were created with, by name.
pub(super) type Specs = BTreeMap<NftName, NftSetSpec>;

/// A transaction as it goes to the kernel.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) messages: Vec<Message>,
    origins: Vec<Origin>,
}

/// What a message carries.
#[derive(Debug)]
struct Origin {
    /// The operation, or the first of those on elements that share the message.
    op: usize,
    part: Part,
}

#[derive(Debug)]
enum Part {
    Whole,
    /// A rule's number, from 0, and where in the message its expressions begin.
    Rule(usize, Vec<usize>),
    /// Where in the message each operation's elements begin.
    Elements(Vec<usize>),
}

impl Batch {
    /// The messages for `ops`, given the sets that are there before them.
    pub(super) fn new(ops: &[&NftOp], specs: &Specs) -> Result<Self, OpError> {
        let mut batch = Self { messages: Vec::new(), origins: Vec::new() };
        let mut specs = specs.clone();
        let mut begin = 0;
        for run in ops.chunk_by(|a, b| goes_along(a, b)) {
            match run {
                [op] if element_of(op).is_none() => batch.add(begin, op, &mut specs)?,
                several => batch.add_elements(begin, several, &specs)?,
            }
            begin += run.len();
        }
        Ok(batch)
    }

    fn push(&mut self, op: usize, part: Part, message: Message) {
        self.messages.push(message);
        self.origins.push(Origin { op, part });
    }

    /// An operation on anything but an element; `specs` follow it.
    fn add(&mut self, index: usize, op: &NftOp, specs: &mut Specs) -> Result<(), OpError> {
        require_expressible(op)?;
        let message = match op {
            NftOp::CreateTable => encode::create_table(),
            NftOp::DeleteTable => {
                specs.clear();
                encode::delete_table()
            }
            NftOp::CreateSet { name, spec } => {
                specs.insert(name.clone(), spec.clone());
                // Unique in the batch, as nft counts them.
                encode::create_set(name, spec, u32::try_from(index + 1).unwrap_or(u32::MAX))
            }
            NftOp::DeleteSet { name } => {
                specs.remove(name);
                encode::delete_set(name)
            }
            NftOp::DeleteChain { name } => encode::delete_chain(name),
            NftOp::PutChain { name, chain } => return self.add_chain(index, op, name, chain),
            // Both are in `add_elements`.
            NftOp::AddElement { .. } | NftOp::DeleteElement { .. } => return Ok(()),
        };
        self.push(index, Part::Whole, message.map_err(|error| op_error(op, &error))?);
        Ok(())
    }

    fn add_chain(
        &mut self,
        index: usize,
        op: &NftOp,
        name: &NftName,
        chain: &NftChain,
    ) -> Result<(), OpError> {
        let failed = |error: NetlinkError| op_error(op, &error);
        let head = encode::chain_head(name, chain.base.as_ref()).map_err(failed)?;
        self.push(index, Part::Whole, head);
        self.push(index, Part::Whole, encode::flush(name).map_err(failed)?);
        for (number, rule) in chain.rules.iter().enumerate() {
            let (message, starts) = encode::rule(name, rule).map_err(failed)?;
            self.push(index, Part::Rule(number, starts), message);
        }
        Ok(())
    }

    /// Operations of one kind on elements of one set.
    fn add_elements(&mut self, begin: usize, ops: &[&NftOp], specs: &Specs) -> Result<(), OpError> {
        let mut index = begin;
        let mut changes =
            ops.iter().filter_map(|op| element_of(op)).map(|(_, change)| change).peekable();
        while changes.peek().is_some() {
            let Some((op, (set, _))) =
                ops.get(index - begin).and_then(|op| Some((op, element_of(op)?)))
            else {
                break;
            };
            let encoded = encode::elements(set, specs.get(set), &mut changes)
                .map_err(|error| op_error(op, &error))?;
            let count = encoded.starts.len();
            self.push(index, Part::Elements(encoded.starts), encoded.message);
            index += count;
        }
        Ok(())
    }

    /// What failed, by the operation whose message was refused.
    pub(super) fn failure(&self, ops: &[&NftOp], failed: &BatchError) -> OpError {
        let offset = match &failed.error {
            NetlinkError::Refused(refusal) => refusal.offset,
            _ => None,
        };
        let origin = failed.message.and_then(|message| self.origins.get(message));
        let Some(Origin { op: first, part }) = origin else {
            return op_error(super::error::OUR_TABLE, &failed.error);
        };
        let at = |starts: &[usize]| {
            let before = starts.partition_point(|start| Some(*start) <= offset);
            before.checked_sub(1)
        };
        match (part, ops.get(*first)) {
            (Part::Elements(starts), Some(op)) => {
                let op = at(starts).and_then(|number| ops.get(first + number)).unwrap_or(op);
                op_error(op, &failed.error)
            }
            (Part::Rule(number, starts), Some(op)) => {
                let OpError { class, object, detail } = op_error(op, &failed.error);
                let place = expression_name(op, *number, at(starts)).map_or_else(
                    || format!("rule {}", number + 1),
                    |name| format!("rule {}, expression {name}", number + 1),
                );
                OpError::new(class, object, format_args!("{place}: {detail}"))
            }
            (_, Some(op)) => op_error(op, &failed.error),
            (_, None) => op_error(super::error::OUR_TABLE, &failed.error),
        }
    }
}

/// The name of the expression that the kernel refused.
fn expression_name(op: &NftOp, rule: usize, expression: Option<usize>) -> Option<&str> {
    let NftOp::PutChain { chain, .. } = op else { return None };
    chain.rules.get(rule)?.expressions.get(expression?).map(encode::expression_name)
}

/// The set and the element of an operation on one.
fn element_of(op: &NftOp) -> Option<(&NftName, Change<'_>)> {
    match op {
        NftOp::AddElement { set, key, element } => Some((set, (key, Some(element)))),
        NftOp::DeleteElement { set, key } => Some((set, (key, None))),
        _ => None,
    }
}

/// Whether two consecutive operations go in one message.
fn goes_along(a: &NftOp, b: &NftOp) -> bool {
    match (element_of(a), element_of(b)) {
        (Some((a_set, (_, a))), Some((b_set, (_, b)))) => {
            a_set == b_set && a.is_some() == b.is_some()
        }
        _ => false,
    }
}

/// Refuses what was observed of others and cannot be made.
fn require_expressible(op: &NftOp) -> Result<(), OpError> {
    let invalid = |detail: String| Err(OpError::new(OpErrorClass::Invalid, op, detail));
    match op {
        NftOp::PutChain { chain, .. } => {
            let unknown = chain.rules.iter().flat_map(|rule| &rule.expressions).find_map(|e| {
                let NftExpr::Unknown(name) = e else { return None };
                Some(name)
            });
            unknown.map_or(Ok(()), |name| invalid(format!("expression {name} is none of ours")))
        }
        NftOp::CreateSet { spec, .. } => {
            let values = match &spec.data {
                NftData::Values(fields) => &fields[..],
                NftData::Nothing | NftData::Verdict => &[],
            };
            let fits = |fields: &[_]| fields.len() <= MAX_FIELDS;
            if fits(&spec.key) && fits(values) && !spec.key.is_empty() {
                return Ok(());
            }
            invalid(format!("a key has one to {MAX_FIELDS} fields, a value no more"))
        }
        _ => Ok(()),
    }
}

/// Whether there is anything in them that depends on what sets were created with.
pub(super) fn concern_elements(ops: &[&NftOp]) -> bool {
    ops.iter().any(|op| element_of(op).is_some())
}
