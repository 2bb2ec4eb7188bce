//! The traversal of a base chain of nftables (`nft_do_chain`).

mod expression;
mod header;
mod registers;

use std::sync::Arc;

use smartnat_core::objects::BuiltinHook;
use smartnat_core::objects::nft::{NftChain, NftName, NftRule, NftVerdict};

use super::path::{Flight, Halt, Walk};
use super::refusal::Refusal;
use super::trace::{DropCause, NftAction, RulePlace, RuleTable, Step};
use registers::Registers;

/// Where a traversal is: which rule comes next.
struct Position {
    name: NftName,
    chain: Arc<NftChain>,
    next: usize,
}

/// A traversal.
struct Traversal<'k> {
    table: &'k str,
    hook: BuiltinHook,
    registers: Registers,
}

/// How an expression ended.
enum Held {
    /// The next expression's turn.
    Yes,
    /// The next rule's turn (`NFT_BREAK`).
    No,
    /// The rule has a verdict.
    Verdict(NftVerdict),
    /// The packet was refused with an answer.
    Rejected,
}

/// What a rule did, for the trace.
#[derive(Default)]
struct Deeds {
    actions: Vec<NftAction>,
    comment: Option<Box<str>>,
}

impl Traversal<'_> {
    fn place(&self, position: &Position) -> RulePlace {
        RulePlace {
            table: RuleTable::Nftables(self.table.to_owned()),
            hook: self.hook,
            chain: position.name.to_string(),
            index: position.next,
        }
    }
}

impl<'k> Walk<'k> {
    /// A base chain, with all that it leads to. Chains are nested no deeper than the table was checked
    /// for, and none leads back: no loop is ever accepted.
    pub(super) fn base_chain(
        &mut self,
        table: &'k str,
        name: &NftName,
        hook: BuiltinHook,
        flight: &mut Flight<'k>,
    ) -> Result<(), Halt> {
        let mut traversal = Traversal { table, hook, registers: Registers::new() };
        let mut position = self.chain_of(table, name)?;
        let drops = position.chain.base.is_some_and(|base| base.drops);
        let mut returns: Vec<Position> = Vec::new();
        loop {
            let chain = Arc::clone(&position.chain);
            let Some(rule) = chain.rules.get(position.next) else {
                match returns.pop() {
                    Some(back) => position = back,
                    None => break,
                }
                continue;
            };
            position.next += 1;
            match self.rule(&mut traversal, &position, rule, flight)? {
                None | Some(NftVerdict::Continue) => {}
                Some(NftVerdict::Accept) => return Ok(()),
                Some(NftVerdict::Drop) => {
                    return Err(Halt::Dropped(DropCause::Rule(traversal.place(&position))));
                }
                Some(NftVerdict::Return) => position.next = chain.rules.len(),
                Some(NftVerdict::Jump(target)) => {
                    let below = self.chain_of(table, &target)?;
                    returns.push(std::mem::replace(&mut position, below));
                }
                Some(NftVerdict::Goto(target)) => position = self.chain_of(table, &target)?,
            }
        }
        if drops {
            let table = RuleTable::Nftables(table.to_owned());
            self.note(|| Step::Policy { table: table.clone(), hook, accepted: false });
            return Err(Halt::Dropped(DropCause::Policy(table, hook)));
        }
        Ok(())
    }

    fn chain_of(&self, table: &str, name: &NftName) -> Result<Position, Refusal> {
        let held = self.nft.table(table).and_then(|table| table.chain(name));
        match held {
            Some(chain) => Ok(Position { name: name.clone(), chain: Arc::clone(chain), next: 0 }),
            None => Refusal::not_modelled(format!("a verdict that leads to no chain, {name}")),
        }
    }

    /// One rule; its verdict, if it has one.
    fn rule(
        &mut self,
        traversal: &mut Traversal<'k>,
        position: &Position,
        rule: &NftRule,
        flight: &mut Flight<'k>,
    ) -> Result<Option<NftVerdict>, Halt> {
        let mut deeds = Deeds::default();
        let mut ended = Held::Yes;
        for expression in &rule.expressions {
            ended = self.expression(traversal, position, expression, flight, &mut deeds)?;
            if !matches!(ended, Held::Yes | Held::Verdict(NftVerdict::Continue)) {
                break;
            }
        }
        if let Held::Verdict(verdict) = &ended
            && !matches!(
                deeds.actions.last(),
                Some(NftAction::Translated { .. } | NftAction::Masqueraded)
            )
        {
            deeds.actions.push(NftAction::Verdict(verdict.clone()));
        }
        if self.detailed && (!matches!(ended, Held::No) || !deeds.actions.is_empty()) {
            let comment = deeds.comment.or_else(|| rule.comment.clone()).map(String::from);
            let place = traversal.place(position);
            self.steps.push(Step::NftRule { place, actions: deeds.actions, comment });
        }
        match ended {
            Held::Yes | Held::No => Ok(None),
            Held::Verdict(verdict) => Ok(Some(verdict)),
            Held::Rejected => Err(Halt::Dropped(DropCause::Rejected(traversal.place(position)))),
        }
    }
}
