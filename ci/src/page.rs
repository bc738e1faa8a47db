//! The page of `kraft-bench report`, in a browser: light and dark, as wide as a screen and as a telephone.

use std::path::Path;
use std::{env, fs};

use crate::command::{Failure, cargo, cargo_status, output};
use crate::debian;
use crate::steps::Outcome;

/// Where the run, the page and its pictures are, for whoever wants to look at them.
const FOLDER: &str = "target/page";

/// Every kind of drawing, and a row that failed: several sizes, connections and rates, and [`DYING`].
const RUN: &str = "run -q -p kraft-bench -- run --workloads echo,open,frames --engines \
                   epoll,io-uring,threads,raw-epoll-et,raw-readers,test-dies --sizes 64,1024 --conns 1,8 \
                   --rate 60000,90000,120000 --rounds 10 --seconds 0.02 --seed 1 --out target/page/run";

/// The engine that ends at its first bytes, in every cell.
const DYING: &str = "test-dies";

/// `run` ends so if an engine failed.
const SOME_FAILED: i32 = 1;

/// What a browser is told about itself: nobody watches, and root may use it.
const BROWSER: &str = "--headless --no-sandbox --disable-gpu --hide-scrollbars --force-device-scale-factor=1 \
                       --virtual-time-budget=1000 --user-data-dir=target/page/profile";

const WIDTHS: [u32; 2] = [1280, 400];

/// Names, and what makes the browser prefer them.
const SCHEMES: [(&str, &str); 2] = [
    ("light", "--blink-settings=preferredColorScheme=1"),
    ("dark", "--blink-settings=preferredColorScheme=0"),
];

/// What the page may weigh.
const BYTES_MAX: u64 = 400_000;

/// Added to a copy of the page: says what the browser made of it. The page itself has no script.
const PROBE: &str = "<script>
const root = document.documentElement;
const wide = [...document.querySelectorAll('body *')].filter(element => {
  const box = element.getBoundingClientRect();
  return box.right > innerWidth + 1 || box.left < -1;
});
const names = wide.slice(0, 5).map(element => element.tagName + ' ' + element.textContent.slice(0, 40));
parent.postMessage([innerWidth, root.scrollWidth, root.scrollHeight, wide.length,
  getComputedStyle(document.body).backgroundColor, names.join('; ')].join('|'), '*');
</script>";

/// A window may not be as narrow as a telephone, a frame in it may. It prefers the colours of what is around it.
const FRAME: &str = "<!doctype html><style>:root { color-scheme: light dark } body { margin: 0 } \
                     iframe { display: block; border: 0; width: WIDTHpx; height: HEIGHTpx }</style>\
                     <script>onmessage = event => document.documentElement.dataset.probe = event.data</script>\
                     <iframe src=\"PAGE\"></iframe>";

/// Windows are at least so wide.
const WINDOW_MIN: u32 = 500;

/// What the browser made of the page.
struct Probe {
    inner_width: u32,
    scroll_width: u32,
    height: u32,
    /// Elements that stick out, and the first of them.
    outside: u32,
    background: String,
    named: String,
}

/// Makes a page of a short run and looks at it.
///
/// # Errors
///
/// Something sticks out, or is missing.
pub(crate) fn run() -> Result<Outcome, Failure> {
    let browser = match ensure() {
        Ok(browser) => browser,
        Err(failure) => {
            println!("ci: ======== SKIPPED: nobody has LOOKED at the page: {failure}");
            return Ok(Outcome::Skipped(format!("the page in a browser ({failure})")));
        }
    };
    // Of the last time; that there is none is fine.
    let _ = fs::remove_dir_all(FOLDER);
    let status = cargo_status(&words(RUN))?;
    if status.code() != Some(SOME_FAILED) {
        return Err(Failure::new(format!(
            "kraft-bench run: {status}, not {SOME_FAILED}, though {DYING} fails"
        )));
    }
    cargo(&words("run -q -p kraft-bench -- report target/page/run"))?;
    let page = format!("{FOLDER}/run/report.html");
    let bytes = fs::metadata(&page).map_err(|error| failed(&page, &error))?.len();
    if bytes > BYTES_MAX {
        return Err(Failure::new(format!("{page}: {bytes} bytes, at most {BYTES_MAX}")));
    }
    let mut backgrounds = Vec::new();
    for (scheme, preference) in SCHEMES {
        for width in WIDTHS {
            let probe = look(&browser, &page, preference, width)?;
            probe.judge(&format!("{scheme}, {width} pixels"), width)?;
            picture(&browser, scheme, preference, width, probe.height)?;
            backgrounds.push(probe.background);
        }
    }
    if backgrounds[0] == backgrounds[WIDTHS.len()] {
        return Err(Failure::new(format!("dark is as light as light: {}", backgrounds[0])));
    }
    let seen = format!("{FOLDER}/seen.html");
    let dom = browse(&browser, SCHEMES[0].1, WIDTHS[0], 1000, &["--dump-dom"], &page)?;
    write(&seen, &dom)?;
    judge_failed(&dom)?;
    cargo(&words(
        "run -q -p kraft-bench -- report target/page/run --check target/page/seen.html",
    ))?;
    println!("ci: the page is {bytes} bytes; its pictures are in {FOLDER}");
    Ok(Outcome::Passed)
}

/// Whoever failed has a row, with the reason.
fn judge_failed(dom: &str) -> Result<(), Failure> {
    match dom.contains(&format!("<td>{DYING}</td><td class=\"why\"")) {
        true => Ok(()),
        false => Err(Failure::new(format!("no row says why {DYING} failed"))),
    }
}

/// A browser, brought here if there is none.
fn ensure() -> Result<String, Failure> {
    let here = || {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut folders = env::split_paths(&path);
        let found = folders.find_map(|folder| {
            let names = ["chromium", "chromium-browser", "google-chrome"].iter();
            names
                .map(|name| folder.join(name))
                .find(|program| Path::new(program).exists())
        });
        found.map(|program| program.to_string_lossy().into_owned())
    };
    if let Some(browser) = here() {
        return Ok(browser);
    }
    println!("ci: chromium is missing; installing Debian's package");
    debian::install(&["chromium"])?;
    here().ok_or_else(|| Failure::new("chromium was installed, and is not there"))
}

/// What a frame of this width makes of the page.
fn look(browser: &str, page: &str, preference: &str, width: u32) -> Result<Probe, Failure> {
    let text = read(page)?.replace("</body>", &format!("{PROBE}</body>"));
    write(&format!("{FOLDER}/probed.html"), &text)?;
    let framed = frame("probed.html", width, 1000)?;
    let dom = browse(browser, preference, width, 1000, &["--dump-dom"], &framed)?;
    Probe::read(&dom).ok_or_else(|| Failure::new(format!("{framed}: the browser ran no script in it")))
}

/// A picture of all of it.
fn picture(browser: &str, scheme: &str, preference: &str, width: u32, height: u32) -> Result<(), Failure> {
    let picture = format!("{FOLDER}/{scheme}-{width}.png");
    let take = format!("--screenshot={picture}");
    let framed = frame("run/report.html", width, height)?;
    browse(browser, preference, width, height, &[&take], &framed)?;
    match fs::metadata(&picture) {
        Ok(file) if file.len() > 0 => Ok(()),
        Ok(_) => Err(Failure::new(format!("{picture}: is empty"))),
        Err(error) => Err(failed(&picture, &error)),
    }
}

/// A page that shows another one of the folder in a frame.
fn frame(page: &str, width: u32, height: u32) -> Result<String, Failure> {
    let framed = format!("{FOLDER}/framed.html");
    let text = FRAME
        .replace("WIDTH", &width.to_string())
        .replace("HEIGHT", &height.to_string())
        .replace("PAGE", page);
    write(&framed, &text)?;
    Ok(framed)
}

fn browse(
    browser: &str,
    preference: &str,
    width: u32,
    height: u32,
    wish: &[&str],
    page: &str,
) -> Result<String, Failure> {
    let at = fs::canonicalize(page).map_err(|error| failed(page, &error))?;
    let size = format!("--window-size={},{height}", width.max(WINDOW_MIN));
    let at = format!("file://{}", at.display());
    output(
        browser,
        &[&words(BROWSER), &[preference, &size][..], wish, &[at.as_str()]].concat(),
    )
}

fn read(path: &str) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| failed(path, &error))
}

fn write(path: &str, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| failed(path, &error))
}

impl Probe {
    fn read(dom: &str) -> Option<Self> {
        let (_, rest) = dom.split_once("data-probe=\"")?;
        let mut parts = rest.split('"').next()?.splitn(6, '|');
        let mut number = || parts.next()?.parse().ok();
        let (inner_width, scroll_width, height, outside) = (number()?, number()?, number()?, number()?);
        Some(Self {
            inner_width,
            scroll_width,
            height,
            outside,
            background: parts.next()?.to_owned(),
            named: parts.next()?.to_owned(),
        })
    }

    fn judge(&self, which: &str, width: u32) -> Result<(), Failure> {
        let Self {
            inner_width,
            scroll_width,
            outside,
            named,
            ..
        } = self;
        if *inner_width != width {
            return Err(Failure::new(format!("{which}: the frame is {inner_width} pixels wide")));
        }
        if scroll_width > inner_width || *outside > 0 {
            return Err(Failure::new(format!(
                "{which}: the page is {scroll_width} pixels wide, and {outside} elements stick out: {named}"
            )));
        }
        Ok(())
    }
}

fn failed(path: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{path}: {error}"))
}

fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sticks_out_is_named() {
        let probe = |text: &str| Probe::read(&format!("<html data-probe=\"{text}\">")).expect("it is complete");
        let fits = probe("400|400|2000|0|rgb(1, 2, 3)|");
        assert!(fits.judge("light", 400).is_ok());
        assert_eq!((fits.height, fits.background.as_str()), (2000, "rgb(1, 2, 3)"));
        let wide = probe("400|412|2000|1|rgb(1, 2, 3)|TD raw-epoll-et");
        let failure = wide.judge("light", 400).expect_err("it sticks out");
        assert!(failure.to_string().contains("TD raw-epoll-et"), "{failure}");
        assert!(probe("500|400|9|0|x|").judge("light", 400).is_err());
        assert!(Probe::read("<html>").is_none());
    }

    #[test]
    fn a_page_without_a_failed_row_is_none() {
        let row = |rest: &str| format!("<tr><td>{DYING}</td>{rest}</tr>");
        assert!(judge_failed(&row("<td class=\"why\" colspan=\"4\">broken</td>")).is_ok());
        assert!(judge_failed(&row("<td class=\"f0\">1,000</td>")).is_err());
        assert!(judge_failed("").is_err());
        assert!(RUN.contains(DYING), "it is measured");
    }
}
