//! Pages of `kraft-bench report`, in a browser: light and dark, as wide as a screen and as a telephone.

use std::path::Path;
use std::{env, fs};

use crate::command::{Failure, cargo, cargo_status, output};
use crate::debian;
use crate::steps::Outcome;

/// Where the runs, their pages and the pictures of these are, for whoever wants to look at them.
const FOLDER: &str = "target/page";

/// A run whose page is looked at.
struct Shown {
    /// Its folder, below [`FOLDER`].
    name: &'static str,
    /// What is measured.
    of: &'static str,
    /// What a page of it has, whatever was measured.
    has: &'static [&'static str],
}

/// Together every kind of drawing. Of loops several sizes, connections and rates, and a row that failed: `test-dies` ends
/// at its first bytes, in every cell. Of clusters two rates and deaths of leaders, in so few rounds that nothing has an
/// interval.
const SHOWN: [Shown; 2] = [
    Shown {
        name: "loops",
        of: "--workloads echo,open,frames,fan-out --engines epoll,io-uring,threads,raw-epoll-et,raw-readers,test-dies \
             --sizes 64,1024 --conns 1,8 --rate 60000,90000,120000 --rounds 10 --seconds 0.02",
        has: &[
            "<td>test-dies</td><td class=\"why\"",
            "data-points=",
            "data-curve=",
            "data-drawn=\"heat ",
            "data-drawn=\"spectrum ",
            "data-drawn=\"cost ",
        ],
    },
    Shown {
        name: "clusters",
        of: "--workloads put,kill-leader --engines epoll,io-uring --cluster-rate 300,600 --rounds 2 --seconds 0.1",
        has: &["data-curve=", "data-drawn=\"cost ", "data-drawn=\"deaths "],
    },
];

/// `run` ends so if a row failed. One of `loops` does; on a busy machine leaders of `clusters` may be deposed.
const SOME_FAILED: i32 = 1;

/// The program. Only with this feature has it clusters.
const BENCH: &str = "run -q -p kraft-bench --features cluster --";

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

/// Makes pages of short runs and looks at them.
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
    for shown in &SHOWN {
        let Shown { name, .. } = shown;
        let page = shown.page()?;
        let dom = see(&browser, name, &page)?;
        shown.judge(&dom)?;
        let check = format!("{BENCH} report {FOLDER}/{name} --check {}", seen(name));
        cargo(&words(&check))?;
    }
    println!("ci: pictures of the pages are in {FOLDER}");
    Ok(Outcome::Passed)
}

impl Shown {
    /// Measures it and makes a page of it, which is small enough.
    fn page(&self) -> Result<String, Failure> {
        let Self { name, of, .. } = self;
        let status = cargo_status(&words(&format!("{BENCH} run {of} --seed 1 --out {FOLDER}/{name}")))?;
        if !matches!(status.code(), Some(0 | SOME_FAILED)) {
            return Err(Failure::new(format!("kraft-bench run, of {name}: {status}")));
        }
        cargo(&words(&format!("{BENCH} report {FOLDER}/{name}")))?;
        let page = format!("{FOLDER}/{name}/report.html");
        let bytes = fs::metadata(&page).map_err(|error| failed(&page, &error))?.len();
        if bytes > BYTES_MAX {
            return Err(Failure::new(format!("{page}: {bytes} bytes, at most {BYTES_MAX}")));
        }
        println!("ci: {page}: {bytes} bytes");
        Ok(page)
    }

    /// Whether its page has every kind of drawing that it is there for.
    fn judge(&self, dom: &str) -> Result<(), Failure> {
        match self.has.iter().find(|has| !dom.contains(**has)) {
            None => Ok(()),
            Some(has) => Err(Failure::new(format!("{}: there is no `{has}` in its page", self.name))),
        }
    }
}

/// Looks at a page in every scheme and width, and takes pictures. What a browser makes of it, which is kept as [`seen`].
fn see(browser: &str, name: &str, page: &str) -> Result<String, Failure> {
    let mut backgrounds = Vec::new();
    for (scheme, preference) in SCHEMES {
        for width in WIDTHS {
            let probe = look(browser, page, preference, width)?;
            probe.judge(&format!("{name}, {scheme}, {width} pixels"), width)?;
            let picture = format!("{FOLDER}/{name}-{scheme}-{width}.png");
            take(browser, page, &picture, preference, width, probe.height)?;
            backgrounds.push(probe.background);
        }
    }
    if backgrounds[0] == backgrounds[WIDTHS.len()] {
        return Err(Failure::new(format!(
            "{name}: dark is as light as light: {}",
            backgrounds[0]
        )));
    }
    let dom = browse(browser, SCHEMES[0].1, WIDTHS[0], 1000, &["--dump-dom"], page)?;
    write(&seen(name), &dom)?;
    Ok(dom)
}

fn seen(name: &str) -> String {
    format!("{FOLDER}/{name}-seen.html")
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

/// Takes a picture of all of a page.
fn take(browser: &str, page: &str, picture: &str, preference: &str, width: u32, height: u32) -> Result<(), Failure> {
    let wish = format!("--screenshot={picture}");
    let page = page.strip_prefix(FOLDER).unwrap_or(page).trim_start_matches('/');
    let framed = frame(page, width, height)?;
    browse(browser, preference, width, height, &[&wish], &framed)?;
    match fs::metadata(picture) {
        Ok(file) if file.len() > 0 => Ok(()),
        Ok(_) => Err(Failure::new(format!("{picture}: is empty"))),
        Err(error) => Err(failed(picture, &error)),
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
    fn a_page_without_one_kind_of_drawing_is_named() {
        for shown in &SHOWN {
            let dom = shown.has.concat();
            assert!(shown.judge(&dom).is_ok());
            for has in shown.has {
                let failure = shown.judge(&dom.replace(has, "")).expect_err("it is not there");
                assert_eq!(
                    failure.to_string(),
                    format!("{}: there is no `{has}` in its page", shown.name)
                );
            }
        }
    }
}
