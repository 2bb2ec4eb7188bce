//! Plots over the number of Mappings, readable on light and dark pages.

use std::fmt::Write as _;

/// Width of a picture.
const WIDTH: f64 = 980.0;
/// Height of a picture.
const HEIGHT: f64 = 380.0;
/// Where the lines are: left, right, top, bottom.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 590.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 320.0;
/// Distance of two lines of the legend.
const LEGEND_STEP: f64 = 24.0;
/// Colours that stand out from white and from black alike, and a dash for whoever sees no colours.
const STYLES: [(&str, &str); 6] = [
    ("#8b949e", "2 4"),
    ("#2f81f7", ""),
    ("#e8710a", "8 4"),
    ("#bf5fb3", "4 3"),
    ("#1a9e5c", "10 3 2 3"),
    ("#d0454c", "1 3"),
];

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Number of its colour and dash.
    pub style: usize,
    /// Number of Mappings and value; both above 0.
    pub points: Vec<(f64, f64)>,
}

/// One picture. Both axes are logarithmic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plot<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What a value is, and its unit.
    pub value: &'a str,
    /// The lines.
    pub series: Vec<Series>,
}

/// A logarithmic axis from decades of values to points of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Axis {
    /// Covers all values, down and up to the next of 1, 2 and 5 times a power of ten.
    fn covering(values: impl Iterator<Item = f64> + Clone, start: f64, end: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(0.0, f64::max);
        // Without a value the axis has some extent all the same.
        let (low, high) = if low.is_finite() && low > 0.0 { (low, high) } else { (1.0, 10.0) };
        let (low, high) = (round_number(low, Direction::Down), round_number(high, Direction::Up));
        let high = if high > low { high } else { round_number(high * 1.5, Direction::Up) };
        Self { low, high, start, end }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.start + share * (self.end - self.start)
    }

    /// Values that get a number: powers of ten, on a short axis twice and five times as much, too.
    fn marks(&self) -> Vec<f64> {
        let short = self.high / self.low <= 300.0;
        let steps: &[f64] = if short { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut marks = Vec::new();
        let mut decade = 10_f64.powf(self.low.log10().floor());
        while decade <= self.high * 1.001 {
            let all = steps.iter().map(|step| step * decade);
            marks.extend(all.filter(|v| *v >= self.low * 0.999 && *v <= self.high * 1.001));
            decade *= 10.0;
        }
        marks
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Down,
    Up,
}

/// The next of 1, 2 and 5 times a power of ten; a number that is one stays.
fn round_number(value: f64, direction: Direction) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let candidates = [0.5, 1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
    // Powers of ten are not exact.
    let near = 1e-9;
    let found = match direction {
        Direction::Down => candidates.iter().rev().find(|c| **c <= value * (1.0 + near)),
        Direction::Up => candidates.iter().find(|c| **c >= value * (1.0 - near)),
    };
    found.copied().unwrap_or(value)
}

/// A number as short as it can be told.
pub(crate) fn short(value: f64) -> String {
    if value >= 1e6 {
        format!("{}M", value / 1e6)
    } else if value >= 1e3 {
        format!("{}k", value / 1e3)
    } else {
        // Nine digits hide what is not exact; a mark of an axis has one that counts.
        let text = format!("{value:.9}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

impl Plot<'_> {
    /// The picture.
    pub(crate) fn svg(&self) -> String {
        let all = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let x = Axis::covering(all().map(|(x, _)| x), LEFT, RIGHT);
        let y = Axis::covering(all().map(|(_, y)| y), BOTTOM, TOP);
        let mut out = header(self.title);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "<text x=\"{LEFT}\" y=\"18\" class=\"title\">{}</text>",
            escape(self.title)
        );
        let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"36\">{}</text>", escape(self.value));
        for mark in y.marks() {
            let at = y.place(mark);
            let _ = writeln!(out, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>");
            let text = short(mark);
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 8.0,
                at + 4.0
            );
        }
        for mark in x.marks() {
            let at = x.place(mark);
            let _ = writeln!(out, "<path class=\"grid\" d=\"M{at:.1} {TOP}V{BOTTOM}\"/>");
            let _ = writeln!(
                out,
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 18.0,
                short(mark)
            );
        }
        let middle = f64::midpoint(LEFT, RIGHT);
        let below = BOTTOM + 40.0;
        let _ = writeln!(
            out,
            "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">Mappings</text>"
        );
        for (number, series) in self.series.iter().enumerate() {
            line(&mut out, series, number, (x, y));
        }
        out + "</svg>\n"
    }
}

fn header(title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{}\">\n<style>\n\
         text {{ font: 13px system-ui, sans-serif; fill: #24292f; }}\n\
         .title {{ font-weight: 600; font-size: 15px; }}\n\
         .grid {{ stroke: #8b949e; stroke-opacity: 0.3; fill: none; }}\n\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3; }} }}\n</style>\n",
        escape(title)
    )
}

fn line(out: &mut String, series: &Series, number: usize, (x, y): (Axis, Axis)) {
    let (colour, dash) = STYLES[series.style % STYLES.len()];
    let places: Vec<(f64, f64)> =
        series.points.iter().map(|(a, b)| (x.place(*a), y.place(*b))).collect();
    let path: Vec<String> = places.iter().map(|(a, b)| format!("{a:.1},{b:.1}")).collect();
    let style = format!("stroke=\"{colour}\" stroke-width=\"2.5\" stroke-dasharray=\"{dash}\"");
    let _ = writeln!(out, "<polyline points=\"{}\" fill=\"none\" {style}/>", path.join(" "));
    for (a, b) in places {
        let _ = writeln!(out, "<circle cx=\"{a:.1}\" cy=\"{b:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
    }
    let at = TOP + 10.0 + LEGEND_STEP * f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    let (from, to) = (RIGHT + 20.0, RIGHT + 52.0);
    let _ = writeln!(out, "<path d=\"M{from} {at}H{to}\" {style}/>");
    let name = escape(&series.name);
    let _ = writeln!(out, "<text x=\"{}\" y=\"{}\">{name}</text>", to + 8.0, at + 4.0);
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "small numbers are exact")]
mod tests {
    use super::*;

    #[test]
    fn an_axis_covers_its_values_and_is_even_in_decades() {
        let axis = Axis::covering([1.0, 100_000.0].into_iter(), 0.0, 500.0);
        assert_eq!((axis.low, axis.high), (1.0, 100_000.0));
        for (decade, value) in [1.0, 10.0, 100.0, 1e3, 1e4, 1e5].into_iter().enumerate() {
            let expected = 100.0 * f64::from(u32::try_from(decade).unwrap());
            assert!((axis.place(value) - expected).abs() < 1e-9, "{value}");
        }
        let upside_down = Axis::covering([0.9, 23.0].into_iter(), 320.0, 50.0);
        assert_eq!((upside_down.low, upside_down.high), (0.5, 50.0));
        assert_eq!(upside_down.place(0.5), 320.0);
        assert!((upside_down.place(50.0) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn marks_are_round_numbers_and_few() {
        let marks = |low, high| Axis { low, high, start: 0.0, end: 1.0 }.marks();
        assert_eq!(marks(0.5, 5.0), [0.5, 1.0, 2.0, 5.0]);
        assert_eq!(marks(1.0, 100_000.0).len(), 6);
    }

    #[test]
    fn axes_without_or_with_one_value_have_an_extent() {
        for values in [&[][..], &[1.0], &[7.0]] {
            let axis = Axis::covering(values.iter().copied(), 0.0, 1.0);
            assert!(axis.high > axis.low && axis.place(axis.high).is_finite(), "{values:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let told = [0.002, 0.5, 1.0, 200.0, 10_000.0, 2e6].map(short);
        assert_eq!(told, ["0.002", "0.5", "1", "200", "10k", "2M"]);
    }

    #[test]
    fn a_plot_has_a_line_a_series_and_every_point_is_inside() {
        let series = |name: &str, y: f64| Series {
            name: name.into(),
            style: 0,
            points: vec![(1.0, y), (1000.0, 2.0 * y)],
        };
        let all = vec![series("one <&> two", 1.0), series("other", 30.0)];
        let svg = Plot { title: "T", value: "ms", series: all }.svg();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("one &lt;&amp;&gt; two") && !svg.contains("NaN"));
        let numbers = |name: &str| -> Vec<f64> {
            let parts = svg.split(name).skip(1);
            parts.filter_map(|p| p.split('"').nth(1)?.parse().ok()).collect()
        };
        let (cx, cy) = (numbers("cx="), numbers("cy="));
        assert_eq!((cx.len(), cy.len()), (4, 4));
        assert!(cx.iter().all(|x| (LEFT..=RIGHT).contains(x)), "{cx:?}");
        assert!(cy.iter().all(|y| (TOP..=BOTTOM).contains(y)), "{cy:?}");
    }
}
