//! Which flavour is taken.

use smartnat_core::model::{Family, IptablesFlavour};
use smartnat_core::objects::XtTable;
use smartnat_linux::{Flavour, Xtables, XtablesSettings};

use super::common::{in_namespace, sh};
use super::{open, program, put, table};

fn detected() -> Xtables {
    Xtables::detect(IptablesFlavour::Auto, XtablesSettings::default()).expect("installed")
}

fn add_foreign(flavour: Flavour) {
    sh(&format!("{} -A FORWARD -j ACCEPT", program(flavour, Family::V6)));
}

fn add_ours(flavour: Flavour) {
    let id = table(Family::V6, XtTable::Mangle);
    open(flavour).apply(id, &[put("SMARTNAT-A", vec![])]).expect("applied");
}

fn plain() -> Flavour {
    let is_nft = sh("iptables -V").contains("nf_tables");
    if is_nft { Flavour::Nft } else { Flavour::Legacy }
}

#[test]
fn without_rules_it_is_the_one_that_iptables_is() {
    in_namespace(|| assert_eq!(detected().flavour(), plain()));
}

#[test]
fn rules_of_others_decide_and_ours_outweigh_them() {
    for flavour in Flavour::ALL {
        in_namespace(|| {
            add_foreign(flavour);
            assert_eq!(detected().flavour(), flavour);
            add_ours(flavour.other());
            assert_eq!(detected().flavour(), flavour.other());
        });
    }
}

#[test]
fn empty_tables_of_others_decide_nothing() {
    in_namespace(|| {
        let other = plain().other();
        sh(&format!("{0} -A FORWARD -j ACCEPT; {0} -F", program(other, Family::V4)));
        assert_eq!(detected().flavour(), plain());
    });
}

#[test]
fn what_of_ours_the_other_flavour_holds_is_told_and_can_be_removed() {
    for flavour in Flavour::ALL {
        in_namespace(|| {
            add_ours(flavour);
            let mut xtables = open(flavour.other());
            let other = xtables.detect_other_ours().expect("read").expect("ours is there");
            assert_eq!(other.flavour, flavour);
            let id = table(Family::V6, XtTable::Mangle);
            assert!(other.tables.keys().eq([&id]));
            open(other.flavour).apply(id, &[super::delete("SMARTNAT-A")]).expect("removed");
            assert_eq!(xtables.detect_other_ours().expect("read"), None);
        });
    }
}
