//! Rules and policies of others that a packet may meet, for an explanation of its way.

use smartnat_core::explain::{DroppingChain, Foreign};
use smartnat_core::model::{Family, IptablesFlavour};
use smartnat_core::objects::{BuiltinHook, XtTable};

use super::native::{Hook, base_chains};
use super::{is_nft_read, program, saved_tables};
use crate::xtables::XtablesSettings;

/// Reads them in the calling thread's network namespace. Our rules are, or will be, in `serving`,
/// or in a table of nftables. A part that cannot be read is named in the result.
pub fn obstacles(serving: Option<IptablesFlavour>, settings: XtablesSettings) -> Foreign {
    let mut found = Foreign::default();
    let saved = saved_tables(settings);
    let nft_is_read = is_nft_read(&saved);
    for (flavour, tables) in saved {
        match tables {
            Ok(tables) => {
                for (family, saved) in &tables {
                    // Beside a table of nftables ours are where others judge packets.
                    let beside_ours = |table: &str| match serving {
                        Some(serving) => serving == flavour.into(),
                        None => table == XtTable::Filter.name(),
                    };
                    found.add_tables(&program(flavour), *family, beside_ours, saved);
                }
            }
            Err(error) => found.unreadable.push(error.to_string()),
        }
    }
    match base_chains(!nft_is_read) {
        Ok(chains) => {
            let dropping = chains.into_iter().filter(|chain| chain.drops);
            found.dropping_chains.extend(dropping.map(|chain| DroppingChain {
                name: chain.to_string(),
                families: Family::ALL.into_iter().filter(|f| chain.family.carries(*f)).collect(),
                hook: hook(chain.hook),
            }));
        }
        Err(error) => found.unreadable.push(format!("chains of nftables: {error}")),
    }
    found
}

fn hook(hook: Hook) -> BuiltinHook {
    match hook {
        Hook::Prerouting => BuiltinHook::Prerouting,
        Hook::Input => BuiltinHook::Input,
        Hook::Forward => BuiltinHook::Forward,
        Hook::Output => BuiltinHook::Output,
        Hook::Postrouting => BuiltinHook::Postrouting,
    }
}
