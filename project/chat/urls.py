from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from . import views
from .forms import NameForm

sign_in = LoginView.as_view(
    template_name="chat/login.html",
    authentication_form=NameForm,
    redirect_authenticated_user=True,
)

urlpatterns = [
    path("", views.rooms, name="rooms"),
    path("rooms/<slug:name>/", views.room, name="room"),
    path("rooms/<slug:name>/hello/", views.hello, name="hello"),
    path("token/", views.token, name="token"),
    path("login/", sign_in, name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
]
