//! What the iptables programs print.

use smartnat_core::model::Family;
use smartnat_core::objects::{BuiltinHook, XtTarget};
use smartnat_core::xtables_text::{canonical, parse_rule, parse_save, render_rule};

/// Reads text as `iptables-save` and `ip6tables-save` output and as a single rule. No text makes it
/// panic, and what is understood is written again as it was read.
pub fn read_back(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for family in Family::ALL {
        if let Ok(saved) = parse_save(family, &text) {
            for foreign in saved.foreign.values() {
                let _ = foreign.is_untouched();
                for hook in BuiltinHook::ALL {
                    let _ = foreign.jumps_to(hook, |chain| chain.starts_with("SNM-"));
                }
            }
            for table in saved.ours.values() {
                let rules = table.chains.values().chain(table.jumps.values()).flatten();
                for rule in rules.filter(|r| !matches!(r.target, XtTarget::Unknown(_))) {
                    let rendered = render_rule(family, rule);
                    let target = rule.jump_target();
                    let again = parse_rule(family, &rendered, |name| {
                        target.is_some_and(|chain| chain.0 == name)
                    });
                    assert_eq!(again, Some(canonical(rule)), "{rendered}");
                }
            }
        }
        if let Some(rule) = parse_rule(family, &text, |_| true) {
            let rendered = render_rule(family, &rule);
            let again = parse_rule(family, &rendered, |_| true);
            assert_eq!(again, Some(canonical(&rule)), "{rendered}");
        }
    }
}
