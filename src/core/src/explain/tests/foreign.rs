//! Rules of others: those that can be evaluated are, the rest is a perhaps (T11, T18).

use super::*;
use crate::model::Backend;
use crate::xtables_text::parse_save;

/// What `iptables-save` prints with ours and these lines in table filter.
fn filter(policy: &str, lines: &str) -> Foreign {
    table("filter", &format!(":FORWARD {policy} [0:0]\n"), lines)
}

fn table(name: &str, declared: &str, lines: &str) -> Foreign {
    let text =
        format!("*{name}\n{declared}:THEIRS - [0:0]\n:SMARTNAT-X - [0:0]\n{lines}\nCOMMIT\n");
    let mut foreign = Foreign::default();
    foreign.add_tables(
        "iptables-nft",
        Family::V4,
        |_| true,
        &parse_save(Family::V4, &text).unwrap(),
    );
    foreign
}

fn told(foreign: Foreign) -> Explanation {
    let scene = Scene { foreign, ..scene([mapping("echo", &["203.0.113.10"])]) };
    ask(&scene, "192.0.2.5", "203.0.113.10", 80)
}

fn may_be_dropped(told: &Explanation) -> bool {
    told.steps.iter().any(|step| step.progress == Progress::Perhaps)
}

const OURS: &str = "-A FORWARD -j SMARTNAT-X";

#[test]
fn a_rule_before_ours_that_matches_for_certain_drops() {
    let dropping = [
        "-A FORWARD -j DROP",
        "-A FORWARD -j REJECT --reject-with icmp-host-prohibited",
        "-A FORWARD -s 192.0.2.0/24 -d 10.1.0.0/16 -i ext1 -o eth0 -p tcp -m tcp --dport 8080 -j DROP",
        "-A FORWARD -i ext+ -m conntrack --ctstate NEW -j DROP",
        "-A FORWARD -p tcp -m multiport --dports 22,8000:8100 -m comment --comment \"a b\" -j DROP",
        "-A FORWARD ! -s 10.0.0.0/8 -j DROP",
        "-A FORWARD -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
        "-A FORWARD -p tcp -m tcp --sport 40000 -j DROP",
        "-A FORWARD -j THEIRS\n-A THEIRS -p udp -j ACCEPT\n-A THEIRS -j DROP",
        "-A FORWARD -g THEIRS\n-A THEIRS -j DROP",
        "-A FORWARD -j LOG\n-A FORWARD -j DROP",
        // The reply, from the endpoint.
        "-A FORWARD -s 10.1.0.7/32 -j DROP",
        "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j DROP",
    ];
    for lines in dropping {
        let told = told(filter("ACCEPT", &format!("{lines}\n{OURS}")));
        assert_eq!(told.cause, Some(Cause::ForeignDrop), "{lines}: {told:#?}");
        assert!(told.summary.contains("filter/FORWARD") || lines.contains("THEIRS"));
        assert!(told.mend.iter().any(|m| m.starts_with("iptables-nft -t filter -D")), "{told:#?}");
    }
}

#[test]
fn what_does_not_match_or_comes_after_ours_does_not_count() {
    let harmless = [
        (format!("{OURS}\n-A FORWARD -j DROP"), "DROP"),
        (format!("-A FORWARD -s 192.0.3.0/24 -j DROP\n{OURS}"), "DROP"),
        (format!("-A FORWARD -p udp -j DROP\n{OURS}"), "ACCEPT"),
        (format!("-A FORWARD -i eth1 -j DROP\n{OURS}"), "ACCEPT"),
        (format!("-A FORWARD -m conntrack --ctstate INVALID -j DROP\n{OURS}"), "ACCEPT"),
        (format!("-A FORWARD -j ACCEPT\n-A FORWARD -j DROP\n{OURS}"), "DROP"),
        (format!("-A FORWARD -j THEIRS\n-A THEIRS -j RETURN\n-A THEIRS -j DROP\n{OURS}"), "ACCEPT"),
    ];
    for (lines, policy) in harmless {
        let told = told(filter(policy, &lines));
        assert_eq!(told.verdict, Verdict::Delivered, "{lines}: {told:#?}");
        assert!(!may_be_dropped(&told), "{lines}: {told:#?}");
    }
}

#[test]
fn what_cannot_be_evaluated_is_a_perhaps() {
    let open = [
        "-A FORWARD -m set --match-set bad src -j DROP",
        "-A FORWARD -m limit --limit 5/sec -j DROP",
        "-A FORWARD -j NFQUEUE --queue-num 0",
        "-A FORWARD -m mark --mark 0x1 -j THEIRS\n-A THEIRS -j DROP",
        "-A FORWARD -m set --match-set good src -j ACCEPT\n-A FORWARD -j DROP",
    ];
    for lines in open {
        let told = told(filter("ACCEPT", &format!("{lines}\n{OURS}")));
        assert_eq!(told.verdict, Verdict::Delivered, "{lines}: {told:#?}");
        assert!(may_be_dropped(&told), "{lines}: {told:#?}");
    }
}

/// Out of a built-in chain RETURN leads to its policy, past ours.
#[test]
fn a_return_before_ours_leads_to_the_policy() {
    let told = told(filter("DROP", &format!("-A FORWARD -j RETURN\n{OURS}")));
    assert_eq!(told.cause, Some(Cause::ForeignDrop), "{told:#?}");
    assert!(told.summary.contains("policy DROP"), "{}", told.summary);
}

/// In table mangle we accept nothing, so what comes after ours counts, and an ACCEPT before
/// ours takes a packet past marks and guard.
#[test]
fn table_mangle_counts_before_and_after_ours() {
    let declared = ":FORWARD ACCEPT [0:0]\n:PREROUTING ACCEPT [0:0]\n";
    let after = told(table("mangle", declared, &format!("{OURS}\n-A FORWARD -j DROP")));
    assert_eq!(after.cause, Some(Cause::ForeignDrop));
    let lines = "-A PREROUTING -j ACCEPT\n-A PREROUTING -j SMARTNAT-X";
    let past = told(table("mangle", declared, lines));
    assert!(past.steps.iter().any(|s| s.text.contains("past SmartNat's rules")), "{past:#?}");
}

#[test]
fn a_translation_before_ours_takes_the_packet_away() {
    let lines = "-A PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8\n\
                 -A PREROUTING -j SMARTNAT-X";
    let told = told(table("nat", ":PREROUTING ACCEPT [0:0]\n", lines));
    assert_eq!(told.cause, Some(Cause::ForeignTranslation), "{told:#?}");
}

/// The other flavour's tables have no rule of ours that accepts.
#[test]
fn the_policy_of_the_other_flavour_counts() {
    let mut foreign = filter("DROP", "");
    foreign.tables[0].beside_ours = false;
    assert_eq!(told(foreign).cause, Some(Cause::ForeignDrop));
    assert_eq!(told(filter("DROP", OURS)).verdict, Verdict::Delivered);
}

/// A snapshot file may say what no kernel would take.
#[test]
fn chains_that_go_in_circles_end() {
    let told =
        told(filter("ACCEPT", &format!("-A FORWARD -j THEIRS\n-A THEIRS -j THEIRS\n{OURS}")));
    assert_eq!(told.verdict, Verdict::Delivered);
    assert!(may_be_dropped(&told));
}

/// The same where ours is in a table of nftables, with an endpoint or without.
fn told_of_nftables(mut foreign: Foreign, served: bool) -> Explanation {
    foreign.tables.iter_mut().for_each(|table| table.beside_ours = false);
    let mut scene = Scene { foreign, ..scene([mapping("echo", &["203.0.113.10"])]) };
    scene.config.backend = Backend::Nftables;
    if !served {
        scene.cluster.slices.clear();
    }
    ask(&scene, "192.0.2.5", "203.0.113.10", 80)
}

/// Our chains are before the table nat of others, and leave what has no endpoint as it is.
#[test]
fn with_nftables_a_translation_of_others_counts_where_nobody_is_home() {
    let lines = "-A PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8";
    let redirected = || table("nat", ":PREROUTING ACCEPT [0:0]\n", lines);
    assert_eq!(told_of_nftables(redirected(), true).verdict, Verdict::Delivered);
    let told = told_of_nftables(redirected(), false);
    assert_eq!(told.cause, Some(Cause::ForeignTranslation), "{told:#?}");
}

/// What this host sends to nobody comes back in by `lo` before it is answered.
#[test]
fn with_nftables_a_rule_of_others_for_lo_counts_for_what_this_host_sends_to_nobody() {
    let verdict = |lines: &str| {
        let foreign = table("mangle", ":PREROUTING ACCEPT [0:0]\n", lines);
        let mut scene = Scene { foreign, ..scene([mapping("echo", &["203.0.113.10"])]) };
        scene.config.backend = Backend::Nftables;
        scene.cluster.slices.clear();
        ask(&scene, "10.0.0.2", "203.0.113.10", 80).verdict
    };
    assert_eq!(verdict("-A PREROUTING -i lo -j DROP"), Verdict::Dropped);
    assert_eq!(verdict("-A PREROUTING -i eth0 -j DROP"), Verdict::Answered);
}

/// Our accept does not save a packet from another table.
#[test]
fn with_nftables_a_policy_of_others_counts() {
    let told = told_of_nftables(filter("DROP", ""), true);
    assert_eq!(told.cause, Some(Cause::ForeignDrop), "{told:#?}");
}

/// The answer is given before table filter.
#[test]
fn with_nftables_table_filter_does_not_hold_back_an_answer() {
    let closed = || table("filter", ":INPUT DROP [0:0]\n", "-A INPUT -p tcp -j DROP");
    let told = told_of_nftables(closed(), false);
    assert_eq!(told.verdict, Verdict::Answered, "{told:#?}");
    let beside = table("mangle", ":INPUT ACCEPT [0:0]\n", "-A INPUT -p tcp -j DROP");
    let told = told_of_nftables(beside, false);
    assert!(told.verdict == Verdict::Answered && may_be_dropped(&told), "{told:#?}");
}
