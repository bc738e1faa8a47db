//! Shapes as text.

use std::fmt::{Display, Write};

/// A drawing in units of which the page shows one as a pixel, more or less.
#[derive(Debug)]
pub(super) struct Svg {
    width: f64,
    height: f64,
    label: String,
    body: String,
}

/// Where a text is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Start,
    Middle,
    End,
}

impl Svg {
    /// `label` is what it shows, for those who do not see it.
    pub(super) fn new(width: f64, height: f64, label: &str) -> Self {
        Self {
            width,
            height,
            label: label.to_owned(),
            body: String::new(),
        }
    }

    /// What is drawn until `close` has the class in common.
    pub(super) fn open(&mut self, class: &str) {
        self.push(format_args!("<g class=\"{class}\">"));
    }

    /// What is drawn until `close` is what is drawn of a row, and found by this.
    pub(super) fn open_keyed(&mut self, key: &str) {
        self.push(format_args!("<g data-drawn=\"{key}\">"));
    }

    pub(super) fn close(&mut self) {
        self.body.push_str("</g>");
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let (x1, y1, x2, y2) = (n(from.0), n(from.1), n(to.0), n(to.1));
        self.push(format_args!("<path class=\"{class}\" d=\"M{x1} {y1}L{x2} {y2}\"/>"));
    }

    pub(super) fn text(&mut self, class: &str, hold: Hold, at: (f64, f64), text: impl Display) {
        let hold = match hold {
            Hold::Start => "",
            Hold::Middle => " m",
            Hold::End => " e",
        };
        let (x, y, text) = (n(at.0), n(at.1), escaped(&text.to_string()));
        self.push(format_args!(
            "<text class=\"{class}{hold}\" x=\"{x}\" y=\"{y}\">{text}</text>"
        ));
    }

    /// `corner` is the upper left one.
    pub(super) fn rect(&mut self, class: &str, corner: (f64, f64), size: (f64, f64), opacity: f64) {
        let (x, y, width, height) = (n(corner.0), n(corner.1), n(size.0), n(size.1));
        let opacity = if opacity < 1.0 {
            format!(" fill-opacity=\"{opacity:.2}\"")
        } else {
            String::new()
        };
        self.push(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"{opacity}/>"
        ));
    }

    /// A line through points.
    pub(super) fn curve(&mut self, class: &str, points: &[(f64, f64)]) {
        self.push(format_args!("<path class=\"{class}\" d=\"{}\"/>", path(points)));
    }

    /// One that is found by its key.
    pub(super) fn keyed_curve(&mut self, class: &str, key: &str, points: &[(f64, f64)]) {
        let path = path(points);
        self.push(format_args!(
            "<path class=\"{class}\" data-curve=\"{key}\" d=\"{path}\"/>"
        ));
    }

    /// Dots on a line from left to right, which are lines of no length with round ends.
    pub(super) fn dots(&mut self, class: &str, key: &str, xs: &[f64], y: f64) {
        let mut places: Vec<i64> = xs.iter().map(|x| (x * 2.0).round() as i64).collect();
        places.sort_unstable();
        let mut path = String::new();
        let mut last = None;
        for place in places {
            // From one to the next, in halves of a pixel: pages are to be small.
            let _ = match last {
                None => write!(path, "M{} {}h0", place as f64 / 2.0, n(y)),
                Some(last) => write!(path, "m{} 0h0", (place - last) as f64 / 2.0),
            };
            last = Some(place);
        }
        self.push(format_args!(
            "<path class=\"{class}\" data-points=\"{key}\" d=\"{path}\"/>"
        ));
    }

    /// A square on its corner.
    pub(super) fn diamond(&mut self, class: &str, (x, y): (f64, f64)) {
        let (x, top) = (n(x), n(y - 4.5));
        self.push(format_args!(
            "<path class=\"{class}\" d=\"M{x} {top}l4.5 4.5-4.5 4.5-4.5-4.5z\"/>"
        ));
    }

    pub(super) fn finish(self) -> String {
        format!(
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{}</svg>",
            n(self.width),
            n(self.height),
            escaped(&self.label),
            self.body
        )
    }

    fn push(&mut self, shape: std::fmt::Arguments<'_>) {
        // Memory takes all.
        let _ = self.body.write_fmt(shape);
    }
}

/// Through points, from each to the next.
fn path(points: &[(f64, f64)]) -> String {
    let steps = points.iter().enumerate();
    let steps = steps.map(|(at, (x, y))| format!("{}{} {}", if at == 0 { 'M' } else { 'L' }, n(*x), n(*y)));
    steps.collect()
}

/// A tenth of a pixel is all that one sees, and pages are to be small.
fn n(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// As text and as an attribute of HTML.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c => safe.push(c),
        }
    }
    safe
}

/// From values to places, by their logarithms if so asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    is_log: bool,
}

impl Scale {
    /// Values from `low` to `high` stand between the places `from` and `to`.
    pub(super) fn linear(low: f64, high: f64, from: f64, to: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self {
            low,
            high,
            from,
            to,
            is_log: false,
        }
    }

    /// The same with equal ratios equally far apart.
    pub(super) fn log(low: f64, high: f64, from: f64, to: f64) -> Self {
        let (low, high) = (low.max(1e-12).ln(), high.max(1e-12).ln());
        Self {
            is_log: true,
            ..Self::linear(low, high, from, to)
        }
    }

    /// The place of a value; one beyond an end stands at that end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let value = if self.is_log { value.max(1e-12).ln() } else { value };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    pub(super) fn holds(&self, value: f64) -> bool {
        let value = if self.is_log { value.max(1e-12).ln() } else { value };
        (self.low - 1e-9..=self.high + 1e-9).contains(&value)
    }
}

/// 1, 2 and 5 of every power of ten within a scale, thinned out to at most `most`.
pub(super) fn decades(scale: &Scale, most: usize) -> Vec<f64> {
    let of = |mantissas: &[f64]| -> Vec<f64> {
        let powers = -3..10;
        let all = powers.flat_map(|power| mantissas.iter().map(move |mantissa| mantissa * 10_f64.powi(power)));
        all.filter(|value| scale.holds(*value)).collect()
    };
    let fine = of(&[1.0, 2.0, 5.0]);
    if fine.len() <= most { fine } else { of(&[1.0]) }
}

/// Places for labels that want to stand at `wanted`, none nearer than `gap` to the next, all between the bounds.
pub(super) fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut places = vec![0.0; wanted.len()];
    let mut next = low;
    for &at in &order {
        places[at] = wanted[at].max(next);
        next = places[at] + gap;
    }
    let mut next = high;
    for &at in order.iter().rev() {
        places[at] = places[at].min(next);
        next = places[at] - gap;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_keeps_ratios_and_ends() {
        let scale = Scale::log(0.5, 2.0, 0.0, 100.0);
        assert!((scale.at(1.0) - 50.0).abs() < 1e-9);
        assert_eq!((scale.at(0.1), scale.at(9.0)), (0.0, 100.0));
        assert!(scale.holds(2.0) && !scale.holds(2.1));
        assert_eq!(
            decades(&Scale::log(0.9, 60.0, 0.0, 1.0), 6),
            [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]
        );
        assert_eq!(
            decades(&Scale::log(0.9, 2000.0, 0.0, 1.0), 6),
            [1.0, 10.0, 100.0, 1000.0]
        );
    }

    #[test]
    fn labels_give_way_to_each_other() {
        assert_eq!(spread(&[50.0, 51.0, 10.0], 12.0, 0.0, 100.0), [50.0, 62.0, 10.0]);
        assert_eq!(spread(&[99.0, 98.0], 12.0, 0.0, 100.0), [100.0, 88.0]);
    }

    #[test]
    fn names_cannot_break_the_page() {
        let mut svg = Svg::new(10.0, 10.0, "a \"b\"");
        svg.text("soft", Hold::End, (1.0, 2.25), "<script>");
        let text = svg.finish();
        assert!(text.contains("aria-label=\"a &quot;b&quot;\""), "{text}");
        assert!(
            text.contains("<text class=\"soft e\" x=\"1\" y=\"2.2\">&lt;script&gt;</text>"),
            "{text}"
        );
    }
}
