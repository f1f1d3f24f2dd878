"""The app as Streamlit's hosting starts it; on a machine of one's own: xray-captioning app."""

from xray_captioning.serving.app import main

main()
