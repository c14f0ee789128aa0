"""The release console; `headrace dashboard` starts it on the store that `MLFLOW_TRACKING_URI` names.

It only reads: runs come from the experiment `headrace`, versions from the registry, both through MLflow.
"""

import sys
from pathlib import Path

import streamlit as st


def main() -> None:
    """Lay out the pages and draw the one asked for."""
    st.set_page_config(page_title="headrace", layout="wide")
    pages = [
        st.Page("runs_page.py", title="Runs", icon=":material/account_tree:", url_path="runs", default=True),
        st.Page("versions_page.py", title="Versions", icon=":material/verified:", url_path="versions"),
    ]
    page = st.navigation(pages, position="top")

    from dashboards.console.words import escape, unsigned
    from headrace.errors import HeadraceError

    try:
        page.run()
    except HeadraceError as error:
        st.error(escape(unsigned(str(error))))


if __name__ == "__main__":
    # Streamlit puts the folder of this file on the path, and the pages import from the project's root.
    root = str(Path(__file__).parents[2])
    if root not in sys.path:
        sys.path.insert(0, root)
    main()
