//! The way of a packet for people.

use std::fmt::Write;

use smartnat_core::explain::{Explanation, Progress, Question, Stage, Verdict};

/// The answer first, then what to do, then the way.
pub fn explanation_text(explanation: &Explanation, notes: &[String]) -> String {
    let mut text = format!("{}: {}\n", headline(explanation.verdict), explanation.summary);
    let _ = writeln!(text, "  {}{}", packet(&explanation.packet), responsible(explanation));
    if !explanation.mend.is_empty() {
        text.push_str("\nWhat to do\n");
        for line in &explanation.mend {
            let _ = writeln!(text, "  - {line}");
        }
    }
    text.push_str("\nThe way\n");
    for (i, step) in explanation.steps.iter().enumerate() {
        let mark = match step.progress {
            Progress::Passes => "    ",
            Progress::Stops => "STOP",
            Progress::Perhaps => "?   ",
        };
        let stage = stage(step.stage);
        let _ = writeln!(text, "  {:>2}. {mark} {stage:<11} {}", i + 1, step.text);
    }
    for note in notes {
        let _ = writeln!(text, "\nNote: {note}");
    }
    text
}

fn headline(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Delivered => "DELIVERED",
        Verdict::PartlyDelivered => "PARTLY DELIVERED",
        Verdict::Egress => "DELIVERED BY EGRESS",
        Verdict::Passes => "PASSES, NOT BY A MAPPING",
        Verdict::Host => "NOT DELIVERED, TO THE HOST ITSELF",
        Verdict::Refused => "NOT DELIVERED, SILENTLY",
        Verdict::Answered => "NOT DELIVERED, ANSWERED AT ONCE",
        Verdict::Dropped => "NOT DELIVERED",
    }
}

fn packet(question: &Question) -> String {
    let from = match question.source_port {
        Some(port) => std::net::SocketAddr::new(question.source, port).to_string(),
        None => question.source.to_string(),
    };
    let to = std::net::SocketAddr::new(question.destination, question.port);
    format!("{} {from} -> {to}", question.protocol)
}

fn responsible(explanation: &Explanation) -> String {
    match (&explanation.mapping, &explanation.field) {
        (Some(mapping), Some(field)) => format!("; Mapping {mapping}, {field}"),
        (Some(mapping), None) => format!("; Mapping {mapping}"),
        (None, _) => String::new(),
    }
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Arrival => "arrival",
        Stage::Mapping => "mapping",
        Stage::Source => "source",
        Stage::Guard => "guard",
        Stage::Endpoint => "endpoint",
        Stage::Translation => "translation",
        Stage::Route => "route",
        Stage::Others => "others",
        Stage::Return => "return",
    }
}
