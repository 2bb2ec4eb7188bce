//! The socket's way out of trouble, in throw-away namespaces.

use netns_rs::NetNs;
use rustix::net::sockopt::set_socket_recv_buffer_size;

use super::super::{MessageBuilder, Subsystem};
use super::*;

/// A question that any namespace answers: ipset's protocol version.
fn question() -> Message {
    let mut message = MessageBuilder::new(Subsystem::IpSet, 1, 0, 2);
    message.byte(1, 7);
    message.finish().expect("short")
}

/// Reads the answer to [`question`].
fn answer(mut attributes: Attributes<'_>) -> Result<u8, ParseError> {
    attributes.next().ok_or(ParseError::Missing("an attribute"))??.byte()
}

/// Runs `test` with a socket of a new namespace; skipped without privileges.
fn with_socket(name: &str, test: impl FnOnce(NetfilterSocket) + Send) {
    if !crate::is_privileged() {
        let required = std::env::var_os("SMARTNAT_REQUIRE_PRIVILEGES").is_some_and(|v| v == "1");
        assert!(!required, "this test needs CAP_NET_ADMIN");
        eprintln!("skipped: needs CAP_NET_ADMIN");
        return;
    }
    let name = format!("snl-{name}-{}", std::process::id());
    let namespace = NetNs::new(name).expect("a namespace");
    let socket = std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            namespace.enter().expect("entered");
            NetfilterSocket::open().expect("opened")
        });
        inside.join()
    });
    // The socket keeps the namespace alive; its name is no longer needed.
    namespace.remove().expect("removed");
    test(socket.expect("no panic"));
}

#[test]
fn after_lost_answers_the_next_request_gets_its_own() {
    with_socket("lost", |mut socket| {
        set_socket_recv_buffer_size(&socket.socket, 1).expect("set");
        let lost = socket.request_ack(&vec![question(); ACK_WINDOW]);
        assert!(matches!(lost, Err(NetlinkError::Overrun)), "{lost:?}");
        assert_eq!(socket.request(&question(), answer).expect("answered"), 7);
    });
}

/// The sets of nftables, of which a new namespace has none.
fn listing() -> Message {
    MessageBuilder::new(Subsystem::NfTables, 10, 0, 1).finish().expect("short")
}

/// By this answer `NftClient` tells that there is no nftables.
#[test]
fn a_subsystem_that_the_kernel_lacks_is_refused_as_invalid() {
    with_socket("lacks", |mut socket| {
        let message = MessageBuilder::new(Subsystem::Absent, 16, 0, 1).finish().expect("short");
        let answered = socket.request(&message, |_| Ok(()));
        let Err(NetlinkError::Refused(refusal)) = answered else { panic!("{answered:?}") };
        assert_eq!(refusal.errno, Errno::INVAL.raw_os_error());
    });
}

#[test]
fn a_listing_of_which_messages_were_lost_is_begun_anew() {
    with_socket("again", |mut socket| {
        set_socket_recv_buffer_size(&socket.socket, 1).expect("set");
        // Their answers, which nobody takes, fill the buffer.
        socket.send(&vec![question(); ACK_WINDOW], NLM_F_ACK).expect("sent");
        let listed = socket.dump(&listing(), |count: &mut usize, _| {
            *count += 1;
            Ok(())
        });
        assert_eq!(listed.expect("listed"), 0);
    });
}

#[test]
fn more_messages_than_a_window_are_all_answered() {
    with_socket("many", |mut socket| {
        let answers = socket.request_ack(&vec![question(); 3 * ACK_WINDOW + 1]).expect("answered");
        assert_eq!(answers, vec![Ok(()); 3 * ACK_WINDOW + 1]);
    });
}

#[test]
fn a_refused_message_has_its_place_among_the_answers() {
    with_socket("place", |mut socket| {
        // There is no such set to destroy.
        let mut refused = MessageBuilder::new(Subsystem::IpSet, 3, 0x200, 2);
        refused.byte(1, 7).string(2, "none");
        let refused = refused.finish().expect("short");
        let answers =
            socket.request_ack(&[question(), refused.clone(), question()]).expect("answered");
        let errno = Errno::NOENT.raw_os_error();
        assert_eq!(answers[0], Ok(()));
        assert_eq!(answers[1].as_ref().map_err(|refusal| refusal.errno), Err(errno));
        assert_eq!(answers[2], Ok(()));
        let listed = socket.dump(&refused, |(): &mut (), _| Ok(()));
        assert!(matches!(listed, Err(NetlinkError::Refused(_))), "{listed:?}");
        assert_eq!(socket.request(&question(), answer).expect("answered"), 7);
    });
}

#[test]
fn an_answer_that_cannot_be_read_leaves_nothing_behind() {
    with_socket("unread", |mut socket| {
        let unread = socket.request::<()>(&question(), |_| Err(ParseError::Missing("it")));
        assert!(matches!(unread, Err(NetlinkError::Parse(_))), "{unread:?}");
        assert_eq!(socket.request(&question(), answer).expect("answered"), 7);
    });
}

#[test]
fn sequence_numbers_may_wrap() {
    with_socket("wrap", |mut socket| {
        socket.sequence = u32::MAX - 1;
        let answers = socket.request_ack(&vec![question(); 4]).expect("answered");
        assert_eq!(answers, vec![Ok(()); 4]);
    });
}
